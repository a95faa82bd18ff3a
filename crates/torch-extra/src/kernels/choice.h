// Which kernels are in use.
#pragma once

#include "kernels.h"

// Those of the fastest instruction set that this processor has, unless a test chose others.
const Kernels &kernels();
