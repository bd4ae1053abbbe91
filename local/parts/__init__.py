"""The parts of the home, in the order in which they are started; they are stopped in the reverse order."""

from typing import Final

from local.parts.emulator import EMULATOR
from local.parts.gateway import GATEWAY
from local.parts.part import Part
from local.parts.postgres import POSTGRES
from local.parts.python_parts import FARGATE, FRONT, MODEL
from local.parts.redis import REDIS

__all__ = ["EMULATOR", "FARGATE", "FRONT", "GATEWAY", "MODEL", "PARTS", "POSTGRES", "REDIS"]

PARTS: Final[tuple[Part, ...]] = (POSTGRES, REDIS, EMULATOR, MODEL, FARGATE, FRONT, GATEWAY)
