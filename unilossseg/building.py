"""What formulas are built from, for a loss of one's own, and the checks of its parameters.

A function of a formula takes `ops`, the backend that `Loss.compute` is given, and arrays of it. Losses and probabilities
are differentiable in logits, and `shifted_logits` but for the largest, which it takes for a constant; masks, labels and
`lovasz_weights` have no gradient.

`choice`, `flag`, `integer`, `number` and `weights` are checks for `Loss.parameter_checks`, with `functools.partial` where
one has bounds or options. Each takes the loss's name, the parameter's and what came, and returns what is kept of that; so
does a check of one's own.
"""

from unilossseg._errors import choice as choice
from unilossseg._errors import flag as flag
from unilossseg._errors import integer as integer
from unilossseg._errors import number as number
from unilossseg._errors import weights as weights
from unilossseg._neighbourhood import central_difference as central_difference
from unilossseg._neighbourhood import dilate as dilate
from unilossseg._neighbourhood import triangle as triangle
from unilossseg._pixels import PixelLabels as PixelLabels
from unilossseg._pixels import as_weights as as_weights
from unilossseg._pixels import average as average
from unilossseg._pixels import class_values as class_values
from unilossseg._pixels import differs as differs
from unilossseg._pixels import flat as flat
from unilossseg._pixels import keep_where as keep_where
from unilossseg._pixels import lovasz_weights as lovasz_weights
from unilossseg._pixels import pixel_cross_entropy as pixel_cross_entropy
from unilossseg._pixels import ratio as ratio
from unilossseg._pixels import shifted_logits as shifted_logits
from unilossseg._pixels import sigmoid as sigmoid
from unilossseg._pixels import softmax as softmax
from unilossseg._pixels import softplus as softplus
from unilossseg._pixels import split_labels as split_labels
from unilossseg._pixels import top_k_mask as top_k_mask
from unilossseg._pixels import total as total
