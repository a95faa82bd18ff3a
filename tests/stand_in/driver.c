// As much of NVIDIA's driver as `doctor` and libtorch ask, with answers from the environment. Its GPUs are imaginary.

#include <stdio.h>
#include <stdlib.h>

#pragma GCC visibility push(default)

static int answer(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

int cuDriverGetVersion(int *version) {
    *version = answer("FAKE_VERSION", 99000);
    return 0;
}

int cuInit(unsigned flags) { return answer("FAKE_RESULT", 0); }

int cuGetErrorString(int result, const char **text) {
    *text = "what went wrong";
    return 0;
}

int cuDeviceGetCount(int *count) {
    *count = answer("FAKE_DEVICES", 1);
    return 0;
}

int cuDeviceGet(int *device, int index) {
    *device = index;
    return 0;
}

int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "Imaginary GPU %d", device);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = (size_t)answer("FAKE_MEMORY", 3 << 10) << 20; // MiB
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : 2;
    return 0;
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *is_active) {
    *flags = 0;
    *is_active = 1;
    return 0;
}

int cuCtxGetCurrent(void **context) {
    static int some;
    *context = &some;
    return 0;
}
