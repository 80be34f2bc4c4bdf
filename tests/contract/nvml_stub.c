/* A stand-in for NVIDIA's libnvidia-ml.so.1, so that the probe is tested on its real ctypes path.
 *
 * Two GPUs. What they answer follows a file named by NVML_STUB_STATE, read at each call, one word:
 *   "ok"        both answer; GPU 1 supports neither power nor energy nor utilisation;
 *               GPU 0 counts 200 J more at each look
 *   "uncounted" GPU 0 supports no energy (before Volta none does)
 *   "reloaded"  GPU 0 counts energy from 0
 *   "lost"      GPU 0 answers GPU_IS_LOST; its handle is dead until NVML is initialised again
 *   "nodriver"  initialising answers DRIVER_NOT_LOADED
 *   "mismatch"  initialising answers LIB_RM_VERSION_MISMATCH
 *   "unknown"   every reading of GPU 0 answers UNKNOWN
 *   "mig"       GPU 0 is in two MIG slices of 5 GB, which answer memory and name alone
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define DRIVER_NOT_LOADED 9
#define GPU_IS_LOST 15
#define LIB_RM_VERSION_MISMATCH 18
#define UNKNOWN 999

typedef struct { unsigned index; int dead; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned before[6], slices, compute; unsigned long long megabytes; } attributes;

static const char *NAMES[] = {"Tesla V100-SXM2-16GB", "NVIDIA T4"};
static const char *UUIDS[] = {"GPU-aaaa-0", "GPU-bbbb-1"};
static const int CAPABILITIES[][2] = {{7, 0}, {7, 5}};
static const char *SLICES[] = {"MIG-cccc-0", "MIG-dddd-1"};
static device devices[] = {{0, 0}, {1, 0}};
static device slices[] = {{0, 0}, {1, 0}};
static int up = 0;

static int state_is(const char *word) {
    char state[32] = "ok";
    const char *path = getenv("NVML_STUB_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (fscanf(file, "%31s", state) != 1) strcpy(state, "ok");
        fclose(file);
    }
    return strcmp(state, word) == 0;
}

static int is_slice(device *d) { return d == &slices[0] || d == &slices[1]; }

static int check(device *d) {
    if (!up) return UNINITIALIZED;
    if (is_slice(d)) return NOT_SUPPORTED;
    if (d != &devices[0] && d != &devices[1]) return INVALID_ARGUMENT;
    if (d->index == 0 && state_is("lost")) d->dead = 1;
    if (d->dead) return GPU_IS_LOST;
    if (d->index == 0 && state_is("unknown")) return UNKNOWN;
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (state_is("nodriver")) return DRIVER_NOT_LOADED;
    if (state_is("mismatch")) return LIB_RM_VERSION_MISMATCH;
    devices[0].dead = devices[1].dead = 0;
    up = 1;
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (!up) return UNINITIALIZED;
    up = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    switch (code) {
        case GPU_IS_LOST: return "GPU is lost";
        case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
        case NOT_SUPPORTED: return "Not Supported";
        case UNKNOWN: return "Unknown Error";
        default: return "Stub Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!up) return UNINITIALIZED;
    *count = 2;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) {
    if (!up) return UNINITIALIZED;
    if (index > 1) return INVALID_ARGUMENT;
    *found = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **found) {
    if (!up) return UNINITIALIZED;
    for (unsigned i = 0; i < 2; i++) {
        if (strcmp(uuid, UUIDS[i]) == 0) {
            *found = &devices[i];
            return SUCCESS;
        }
    }
    for (unsigned i = 0; i < 2 && state_is("mig"); i++) {
        if (strcmp(uuid, SLICES[i]) == 0) {
            *found = &slices[i];
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending) {
    int refused = check(d);
    if (refused) return refused;
    if (d->index == 1) return NOT_SUPPORTED;
    *current = *pending = state_is("mig");
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) {
    (void)d;
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned place, device **found) {
    int refused = check(d);
    if (refused) return refused;
    if (place > 1) return NOT_FOUND;
    *found = &slices[place];
    return SUCCESS;
}

int nvmlDeviceIsMigDeviceHandle(device *d, unsigned *answer) {
    *answer = is_slice(d);
    return SUCCESS;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *d, device **found) {
    if (!is_slice(d)) return INVALID_ARGUMENT;
    *found = &devices[0];
    return SUCCESS;
}

int nvmlDeviceGetAttributes_v2(device *d, attributes *a) {
    if (!is_slice(d)) return NOT_SUPPORTED;
    memset(a, 0, sizeof *a);
    a->slices = 1;
    a->megabytes = 4864;
    return SUCCESS;
}

static int copy(device *d, const char *const *texts, char *text, unsigned length) {
    int refused = check(d);
    if (refused) return refused;
    snprintf(text, length, "%s", texts[d->index]);
    return SUCCESS;
}

int nvmlDeviceGetUUID(device *d, char *text, unsigned length) {
    if (!is_slice(d)) return copy(d, UUIDS, text, length);
    snprintf(text, length, "%s", SLICES[d->index]);
    return SUCCESS;
}

int nvmlDeviceGetName(device *d, char *text, unsigned length) {
    return copy(is_slice(d) ? &devices[0] : d, NAMES, text, length);
}

int nvmlDeviceGetMemoryInfo(device *d, memory *m) {
    if (is_slice(d)) {
        m->total = 5ULL << 30;
        m->used = 1ULL << 30;
        m->free = 4ULL << 30;
        return SUCCESS;
    }
    int refused = check(d);
    if (refused) return refused;
    m->total = 16ULL << 30;
    m->used = 4ULL << 30;
    m->free = 12ULL << 30;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(device *d, utilization *u) {
    int refused = check(d);
    if (refused) return refused;
    if (d->index == 1) return NOT_SUPPORTED;
    u->gpu = 83;
    u->memory = 40;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *celsius) {
    int refused = check(d);
    if (refused) return refused;
    if (sensor != 0) return INVALID_ARGUMENT;
    *celsius = 71 - 20 * d->index;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(device *d, unsigned *milliwatts) {
    int refused = check(d);
    if (refused) return refused;
    if (d->index == 1) return NOT_SUPPORTED;
    *milliwatts = 250500;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(device *d, unsigned long long *millijoules) {
    static unsigned long long counted = 5000000;
    int refused = check(d);
    if (refused) return refused;
    if (d->index == 1 || state_is("uncounted")) return NOT_SUPPORTED;
    if (state_is("reloaded")) counted = 0;
    *millijoules = counted += 200000;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
    int refused = check(d);
    if (refused) return refused;
    *major = CAPABILITIES[d->index][0];
    *minor = CAPABILITIES[d->index][1];
    return SUCCESS;
}
