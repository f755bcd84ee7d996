/* Loops over float32 pixels. Compiled once for each instruction set: NAMED(x) is the name of x in this one.
 *
 * Rows are channels: x + c * step is channel c, whose pixels are neighbours in memory. No loop asks Python for anything, and
 * none reads outside of what the caller has checked; an index out of range is counted, not followed.
 */

#include "functions.h"
#include "softmax_loops.h"
#include "half_loops.h"
#include "element_loops.h"
#include "tally_loops.h"
#include "order_loops.h"
