from typing import final

from ext.decode import Decoder

@final
class BinanceDecoder(Decoder): ...
