from ext.decode cimport Decoder


cdef class BybitDecoder(Decoder):
    pass
