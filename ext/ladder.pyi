# C only: `cimport` from it; its Python face is ext.book.
