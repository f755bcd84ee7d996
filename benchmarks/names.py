"""Names of contestants that results and tables share."""

OURS = "UniLossSeg"
#: The peer that Paddle's targets are against.
REFERENCE = "PaddleSeg"
#: Logits read once, exp, a gradient written once into a fresh buffer, and into one that is there already.
FLOOR = "floor"
WARM_FLOOR = "floor, warm buffer"
FLOORS = (FLOOR, WARM_FLOOR)
