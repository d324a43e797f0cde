from typing import final

from ext.decode import Decoder

@final
class BybitDecoder(Decoder): ...
