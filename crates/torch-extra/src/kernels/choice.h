// Which kernels are in use.
#pragma once

#include "kernels.h"

// Those of the fastest instruction set that this processor has, unless others were chosen. An operation asks once and
// keeps the answer for its backward pass: each has its own layout of packed weights.
const Kernels &chosen_kernels();
