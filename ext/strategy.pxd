# Base of strategies written in Cython: `from ext.strategy cimport Strategy`, then a cdef class with typed state.
cdef class Strategy:
    cdef readonly object context
    cdef readonly object params
    cpdef object wants(self)
    cpdef object on_start(self)
    cpdef object on_book(self, object update)
    cpdef object on_trade(self, object trade)
    cpdef object on_mark(self, object mark)
    cpdef object on_order(self, object order)
    cpdef object on_plan(self, object plan)
    cpdef object on_timer(self, object now_ns)
