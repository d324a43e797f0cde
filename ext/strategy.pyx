"""The base class of every strategy, for Python and for Cython. What the calls mean is in engine/strategy.py.

An extension class, so that a strategy can be a `cdef class` with C state and cimported books; a Python subclass pays
nothing for it. `cpdef` is deliberate: handlers are overridden from both languages.
"""


cdef class Strategy:
    def __init__(self, context, params):
        self.context = context
        self.params = params

    cpdef object wants(self):
        return list(self.context.instruments)

    cpdef object on_start(self):
        pass

    cpdef object on_book(self, object update):
        pass

    cpdef object on_trade(self, object trade):
        pass

    cpdef object on_mark(self, object mark):
        pass

    cpdef object on_order(self, object order):
        pass

    cpdef object on_plan(self, object plan):
        pass

    cpdef object on_timer(self, object now_ns):
        pass
