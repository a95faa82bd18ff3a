#pragma once

// The function of libtorch_cuda with this name, mangled as the linker would know it. The program is not linked to that
// library, which is loaded only where there is a driver. Throws if it is not loaded.
void *find_in_cuda_half(const char *name);
