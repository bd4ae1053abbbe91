"""The half of the stand-in that runs inside a jail; standard library only."""
