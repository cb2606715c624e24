/* What a step of a transformer spends its time on, for a CPU: skinny and square products with
 * packed weights, attention over paged KV, and the small things between and behind them, all float32.
 *
 * Every number is summed in one order, whatever the shape of the batch and however the work is
 * cut: a product adds its terms one by one, in the order of the inner dimension, by fused
 * multiply-add; a sum over a row has sixteen lanes that are added as a tree; a softmax passes over
 * its context in spans of 128 tokens. So a row's result depends on that row alone, and is the same
 * with vectors of 4, 8 and 16 numbers.
 */
#include "attention.h"
#include "likeliest.h"
#include "linear.h"
#include "rows.h"
#include "turning.h"
