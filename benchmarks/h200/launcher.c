/* Launches one kernel many times through the CUDA driver, for the bare cost of a launch. Built on the fly; no CUDA headers. */
#include <stdint.h>
#include <time.h>

typedef int (*launch_fn)(void *function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *stream,
                         void **params, void **extra);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Seconds the host took for `count` launches; negative CUDA error if one failed. */
double launch_many(void *launch, void *function, const unsigned *dims, unsigned shared, void *stream, void *args, uint64_t size,
                   int count) {
  void *extra[] = {(void *)1, args, (void *)2, &size, (void *)0};
  double start = now();
  for (int i = 0; i < count; i++) {
    int error = ((launch_fn)launch)(function, dims[0], dims[1], dims[2], dims[3], dims[4], dims[5], shared, stream, 0, extra);
    if (error) return -error;
  }
  return now() - start;
}
