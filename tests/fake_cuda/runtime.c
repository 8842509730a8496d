// A pretended CUDA runtime (libcudart.so.13) for finding wrong calls, not for numbers. Device memory is host memory
// that stays zero, kernels only take simulated time, and what is in use is shared between processes through a file.
// Each function has the name, and about the arguments, of the function of CUDA's runtime that it stands for.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <time.h>
#include <signal.h>
#include <errno.h>
#include <pthread.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <stdarg.h>
#include "driver_types.h"

// ---- state

// A stream is a clock: work is done once it is later than `busy_until` (microseconds). While it captures, work is
// counted.
typedef struct {
  int dev;
  double busy_until;
  int capturing;
  unsigned long long capture_id;
  long count;
  int is_default;
} stream_t;

typedef struct {
  int dev;
  double t;
  int recorded;
} event_t;

typedef struct {
  long count;
} graph_t;

#define MAX_DEVICES 4
#define SLOTS 64
#define REGION_BYTES (1ull << 37)

// What each process has on each device; the file FAKE_SHM holds it. `lock` is the pid of the process that changes it.
typedef struct {
  int pid;
  size_t used[MAX_DEVICES];
  int ctx[MAX_DEVICES];
} slot_t;
typedef struct {
  volatile int lock;
  slot_t s[SLOTS];
} shared_t;

static shared_t *shared;
static int devices = 1, exclusive = 0;
static const char *lost_file = 0;
static size_t memory_total = 4096ull << 20, context_memory = 300ull << 20;
static double kernel_us = 5;
static int log_fd = -1;
static __thread int current = 0;
static __thread cudaError_t last_error = 0;

static stream_t default_streams[MAX_DEVICES];
static char *region[MAX_DEVICES];
static size_t region_end[MAX_DEVICES];

// Device memory: one reserved range of addresses per device, handed out in blocks that are never given back to it.
typedef struct block_t {
  char *p;
  size_t n;
  struct block_t *next;
} block_t;
static block_t *free_blocks[MAX_DEVICES], *used_blocks[MAX_DEVICES];
static pthread_mutex_t blocks_mutex = PTHREAD_MUTEX_INITIALIZER;

static double now_us() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void log_line(const char *f, ...) {
  if (log_fd < 0) return;
  char b[300];
  int n = snprintf(b, sizeof b, "%d %.1f dev%d ", getpid(), now_us(), current);
  va_list a;
  va_start(a, f);
  n += vsnprintf(b + n, sizeof b - n - 2, f, a);
  va_end(a);
  b[n++] = '\n';
  (void)!write(log_fd, b, n);
}

// Whether a process runs: a zombie has given its memory back.
static int is_alive(int pid) {
  char p[64], b[400];
  if (!(kill(pid, 0) == 0 || errno == EPERM)) return 0;
  snprintf(p, 64, "/proc/%d/stat", pid);
  int f = open(p, O_RDONLY);
  if (f < 0) return 0;
  int n = read(f, b, 399);
  close(f);
  if (n <= 0) return 0;
  b[n] = 0;
  char *q = strrchr(b, ')');
  return q && q[2] != 'Z' && q[2] != 'X';
}

// Workers get killed at any time: a lock whose holder has gone is free.
static void lock() {
  int holder;
  while ((holder = __sync_val_compare_and_swap(&shared->lock, 0, getpid()))) {
    if (!is_alive(holder)) __sync_val_compare_and_swap(&shared->lock, holder, 0);
    usleep(10);
  }
}

static void unlock() { __sync_lock_release(&shared->lock); }

// This process's place in the file; that of a process that has gone is taken over. Call it under the lock, as
// `used_on`.
static slot_t *my_slot() {
  for (int i = 0; i < SLOTS; i++)
    if (shared->s[i].pid == getpid()) return &shared->s[i];
  for (int i = 0; i < SLOTS; i++) {
    int p = shared->s[i].pid;
    if (p == 0 || !is_alive(p)) {
      memset(&shared->s[i], 0, sizeof(slot_t));
      shared->s[i].pid = getpid();
      return &shared->s[i];
    }
  }
  return &shared->s[0];
}

static size_t used_on(int d) {
  size_t t = 0;
  for (int i = 0; i < SLOTS; i++) {
    int p = shared->s[i].pid;
    if (p) {
      if (p != getpid() && !is_alive(p)) {
        memset(&shared->s[i], 0, sizeof(slot_t));
        continue;
      }
      t += shared->s[i].used[d];
    }
  }
  return t;
}

// Read the settings once per process.
static void initialise() {
  static int done = 0;
  if (done) return;
  done = 1;
  char *e;
  if ((e = getenv("FAKE_DEVICES"))) devices = atoi(e);
  if (devices > MAX_DEVICES) devices = MAX_DEVICES;
  if ((e = getenv("FAKE_MEM_MB"))) memory_total = (size_t)atol(e) << 20;
  if ((e = getenv("FAKE_EXCLUSIVE"))) exclusive = atoi(e);
  lost_file = getenv("FAKE_LOST");
  if ((e = getenv("FAKE_KERNEL_US"))) kernel_us = atof(e);
  if ((e = getenv("FAKE_LOG"))) log_fd = open(e, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
  // Without FAKE_SHM, which the wrapper `python` sets, a process knows of itself and of its forks alone.
  int fd = (e = getenv("FAKE_SHM")) ? open(e, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
  if (fd >= 0) (void)!ftruncate(fd, sizeof(shared_t));
  shared = mmap(0, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
  if (fd >= 0) close(fd);
  for (int d = 0; d < MAX_DEVICES; d++) {
    default_streams[d].dev = d;
    default_streams[d].is_default = 1;
  }
}

// Whether a device is lost: its number is in the file FAKE_LOST.
static int is_lost(int d) {
  char b[16];
  int f = lost_file ? open(lost_file, O_RDONLY) : -1;
  if (f < 0) return 0;
  int n = read(f, b, sizeof b - 1);
  close(f);
  return n > 0 && memchr(b, '0' + d, n) != 0;
}

static pid_t first_pid = 0;

// Make the context of a device, as the first real call does: CUDA does not survive a fork, a context takes memory, and
// in exclusive mode there is one process per device.
static cudaError_t ensure_context(int d) {
  initialise();
  if (first_pid == 0) first_pid = getpid();
  if (first_pid != getpid()) {
    log_line("USED AFTER FORK");
    return last_error = cudaErrorInitializationError;
  }
  if (is_lost(d)) {
    log_line("LOST");
    return last_error = cudaErrorUnknown;
  }
  lock();
  slot_t *m = my_slot();
  if (!m->ctx[d]) {
    if (exclusive)
      for (int i = 0; i < SLOTS; i++)
        if (shared->s[i].pid && shared->s[i].pid != getpid() && shared->s[i].ctx[d] && is_alive(shared->s[i].pid)) {
          unlock();
          log_line("EXCLUSIVE: busy");
          return last_error = cudaErrorDevicesUnavailable;
        }
    if (used_on(d) + context_memory > memory_total) {
      unlock();
      log_line("no memory for a context");
      return last_error = cudaErrorMemoryAllocation;
    }
    m->ctx[d] = 1;
    m->used[d] += context_memory;
    log_line("CONTEXT made on %d", d);
  }
  unlock();
  if (!region[d])
    region[d] = mmap(0, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return 0;
}

#define ENSURE(d)                                                                                                      \
  do {                                                                                                                 \
    cudaError_t e_ = ensure_context(d);                                                                                \
    if (e_) return e_;                                                                                                 \
  } while (0)

// Streams 0, 1 and 2 are the default stream, the legacy one and the one per thread.
static stream_t *stream_of(void *s) {
  if (!s || s == (void *)1 || s == (void *)2) return &default_streams[current];
  return (stream_t *)s;
}

static void enqueue(stream_t *s, double us) {
  if (s->capturing) {
    s->count++;
    return;
  }
  double n = now_us();
  if (s->busy_until < n) s->busy_until = n;
  s->busy_until += us;
}

// Launch a kernel: what every kernel of torch, Triton and cuBLAS comes to.
int fake_launch(void *stream) {
  ENSURE(current);
  stream_t *s = stream_of(stream);
  if (s->dev != current) {
    log_line("LAUNCH on stream of dev%d while current is %d", s->dev, current);
    return cudaErrorInvalidResourceHandle;
  }
  enqueue(s, kernel_us);
  return 0;
}

static cudaError_t allocate(void **p, size_t n) {
  ENSURE(current);
  int d = current;
  n = (n + 2097151) & ~2097151ull;
  lock();
  if (used_on(d) + n > memory_total) {
    unlock();
    log_line("cudaMalloc %zu FAILS", n);
    *p = 0;
    return last_error = cudaErrorMemoryAllocation;
  }
  my_slot()->used[d] += n;
  unlock();
  pthread_mutex_lock(&blocks_mutex);
  block_t **q = &free_blocks[d];
  while (*q && (*q)->n != n) q = &(*q)->next;
  block_t *b = *q;
  if (b)
    *q = b->next;
  else {
    b = malloc(sizeof *b);
    b->n = n;
    b->p = region[d] + region_end[d];
    region_end[d] += n;
  }
  b->next = used_blocks[d];
  used_blocks[d] = b;
  *p = b->p;
  pthread_mutex_unlock(&blocks_mutex);
  return 0;
}

static int device_of(const void *p) {
  for (int d = 0; d < MAX_DEVICES; d++)
    if (region[d] && (char *)p >= region[d] && (char *)p < region[d] + REGION_BYTES) return d;
  return -1;
}

static cudaError_t deallocate(void *p) {
  if (!p) return 0;
  int d = device_of(p);
  if (d < 0) return last_error = cudaErrorInvalidValue;
  pthread_mutex_lock(&blocks_mutex);
  block_t **q = &used_blocks[d];
  while (*q && (*q)->p != (char *)p) q = &(*q)->next;
  block_t *b = *q;
  if (b) {
    *q = b->next;
    b->next = free_blocks[d];
    free_blocks[d] = b;
    madvise(b->p, b->n, MADV_DONTNEED);
  }
  pthread_mutex_unlock(&blocks_mutex);
  if (!b) return last_error = cudaErrorInvalidValue;
  lock();
  my_slot()->used[d] -= b->n;
  unlock();
  return 0;
}

static void wait_until(double t) { while (now_us() < t); }

// ---- devices and errors

cudaError_t cudaGetDeviceCount(int *n) {
  initialise();
  if (first_pid && first_pid != getpid()) {
    *n = 0;
    log_line("count AFTER FORK");
    return last_error = cudaErrorInitializationError;
  }
  first_pid = getpid();
  *n = devices;
  log_line("cudaGetDeviceCount");
  return 0;
}

cudaError_t cudaGetDevice(int *d) {
  initialise();
  *d = current;
  return 0;
}

cudaError_t cudaSetDevice(int d) {
  initialise();
  if (d >= devices) return last_error = cudaErrorInvalidDevice;
  int was = current;
  current = d;
  ENSURE(d);
  if (was != d) log_line("cudaSetDevice %d", d);
  return 0;
}

cudaError_t cudaDeviceSynchronize() {
  ENSURE(current);
  log_line("cudaDeviceSynchronize");
  wait_until(default_streams[current].busy_until);
  return 0;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int d) {
  initialise();
  memset(p, 0, sizeof *p);
  snprintf(p->name, 256, d ? "Fake A100 (number %d)" : "Fake H100", d);
  p->uuid.bytes[0] = d + 1;
  p->totalGlobalMem = memory_total;
  p->sharedMemPerBlock = 49152;
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->totalConstMem = 65536;
  p->major = 9;
  p->minor = 0;
  p->multiProcessorCount = 132;
  p->l2CacheSize = 50 << 20;
  p->maxThreadsPerMultiProcessor = 2048;
  p->sharedMemPerMultiprocessor = 233472;
  p->regsPerMultiprocessor = 65536;
  p->sharedMemPerBlockOptin = 232448;
  p->textureAlignment = 512;
  p->memoryBusWidth = 5120;
  p->maxBlocksPerMultiProcessor = 32;
  p->unifiedAddressing = 1;
  p->concurrentKernels = 1;
  p->pciBusID = d + 1;
  return 0;
}

cudaError_t cudaDeviceGetAttribute(int *v, int a, int d) {
  initialise();
  switch (a) {
  case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
  case cudaDevAttrWarpSize: *v = 32; break;
  case cudaDevAttrMultiProcessorCount: *v = 132; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *v = 2048; break;
  case cudaDevAttrComputeCapabilityMajor: *v = 9; break;
  case cudaDevAttrComputeCapabilityMinor: *v = 0; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = 233472; break;
  case cudaDevAttrMaxRegistersPerMultiprocessor: *v = 65536; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 232448; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
  default: *v = 1;
  }
  return 0;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *a, int *b) {
  *a = 0;
  *b = -5;
  return 0;
}

cudaError_t cudaDeviceCanAccessPeer(int *a, int b, int c) {
  *a = 0;
  return 0;
}

cudaError_t cudaDeviceEnablePeerAccess(int a, unsigned b) { return 0; }

cudaError_t cudaDeviceGetDefaultMemPool(void **p, int d) {
  static int x;
  *p = &x;
  return 0;
}

cudaError_t cudaDeviceGetPCIBusId(char *s, int n, int d) {
  snprintf(s, n, "0000:%02x:00.0", d + 1);
  return 0;
}

cudaError_t cudaDriverGetVersion(int *v) {
  *v = 13000;
  return 0;
}

cudaError_t cudaRuntimeGetVersion(int *v) {
  *v = 13000;
  return 0;
}

cudaError_t cudaGetLastError() {
  cudaError_t e = last_error;
  last_error = 0;
  return e;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

const char *cudaGetErrorName(cudaError_t e) {
  return e == cudaErrorMemoryAllocation        ? "cudaErrorMemoryAllocation"
         : e == cudaErrorInitializationError   ? "cudaErrorInitializationError"
         : e == cudaErrorDevicesUnavailable    ? "cudaErrorDevicesUnavailable"
         : e == cudaErrorInvalidResourceHandle ? "cudaErrorInvalidResourceHandle"
                                               : "cudaErrorX";
}

const char *cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation        ? "out of memory"
         : e == cudaErrorInitializationError   ? "initialization error"
         : e == cudaErrorDevicesUnavailable    ? "CUDA-capable device(s) is/are busy or unavailable"
         : e == cudaErrorInvalidResourceHandle ? "invalid resource handle"
         : e == cudaSuccess                    ? "no error"
                                               : "some error";
}

// ---- memory

cudaError_t cudaMalloc(void **p, size_t n) {
  cudaError_t e = allocate(p, n);
  log_line("cudaMalloc %zu -> %d", n, e);
  return e;
}

cudaError_t cudaFree(void *p) {
  if (!p) {
    ENSURE(current);
    return 0;
  }
  log_line("cudaFree");
  return deallocate(p);
}

cudaError_t cudaMallocAsync(void **p, size_t n, void *s) { return allocate(p, n); }
cudaError_t cudaFreeAsync(void *p, void *s) { return deallocate(p); }

cudaError_t cudaMemGetInfo(size_t *f, size_t *t) {
  ENSURE(current);
  lock();
  size_t u = used_on(current);
  unlock();
  *f = memory_total > u ? memory_total - u : 0;
  *t = memory_total;
  return 0;
}

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned f) {
  ENSURE(current);
  return posix_memalign(p, 4096, n) ? cudaErrorMemoryAllocation : 0;
}

cudaError_t cudaFreeHost(void *p) {
  free(p);
  return 0;
}

cudaError_t cudaHostRegister(void *p, size_t n, unsigned f) { return 0; }
cudaError_t cudaHostUnregister(void *p) { return 0; }

// Copies off the device give zeros; those onto it change nothing.
static cudaError_t copy_memory(void *d, const void *s, size_t n, void *stream) {
  ENSURE(current);
  enqueue(stream_of(stream), kernel_us);
  if (device_of(d) < 0) {
    if (device_of(s) >= 0) wait_until(stream_of(stream)->busy_until);
    memmove(d, s, n);
  }
  return 0;
}

cudaError_t cudaMemcpy(void *d, const void *s, size_t n, int k) { return copy_memory(d, s, n, 0); }
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, int k, void *st_) { return copy_memory(d, s, n, st_); }

cudaError_t cudaMemcpyPeerAsync(void *d, int a, const void *s, int b, size_t n, void *st_) {
  return copy_memory(d, s, n, st_);
}

cudaError_t cudaMemcpy2DAsync(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, int k, void *st_) {
  return 0;
}

cudaError_t cudaMemcpyToSymbol(const void *s, const void *p, size_t n, size_t o, int k) { return 0; }

cudaError_t cudaMemset(void *p, int v, size_t n) {
  ENSURE(current);
  return 0;
}

cudaError_t cudaMemsetAsync(void *p, int v, size_t n, void *s) {
  ENSURE(current);
  enqueue(stream_of(s), kernel_us);
  return 0;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
  initialise();
  int d = device_of(p);
  memset(a, 0, sizeof *a);
  a->type = d >= 0 ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  a->device = d >= 0 ? d : -2;
  a->devicePointer = d >= 0 ? (void *)p : 0;
  return 0;
}

cudaError_t cudaGetSymbolAddress(void **p, const void *s) {
  static void *z[MAX_DEVICES];
  ENSURE(current);
  if (!z[current]) allocate(&z[current], 1 << 20);
  *p = z[current];
  return 0;
}

cudaError_t cudaMemPoolGetAttribute(void *a, int b, void *c) {
  memset(c, 0, 8);
  return 0;
}

cudaError_t cudaMemPoolSetAttribute(void *a, int b, void *c) { return 0; }
cudaError_t cudaMemPoolSetAccess(void *a, const void *b, size_t c) { return 0; }
cudaError_t cudaMemPoolTrimTo(void *a, size_t b) { return 0; }
cudaError_t cudaIpcGetMemHandle(void *a, void *b) { return cudaErrorNotSupported; }
cudaError_t cudaIpcOpenMemHandle(void **a, ...) { return cudaErrorNotSupported; }
cudaError_t cudaIpcCloseMemHandle(void *a) { return 0; }
cudaError_t cudaIpcGetEventHandle(void *a, void *b) { return cudaErrorNotSupported; }
cudaError_t cudaIpcOpenEventHandle(void **a, ...) { return cudaErrorNotSupported; }

// ---- streams and events: an event is the time at which its stream will have got that far

static cudaError_t make_stream(void **s) {
  ENSURE(current);
  stream_t *x = calloc(1, sizeof *x);
  x->dev = current;
  *s = x;
  return 0;
}

cudaError_t cudaStreamCreate(void **s) { return make_stream(s); }
cudaError_t cudaStreamCreateWithFlags(void **s, unsigned f) { return make_stream(s); }
cudaError_t cudaStreamCreateWithPriority(void **s, unsigned f, int p) { return make_stream(s); }
cudaError_t cudaStreamDestroy(void *s) { return 0; }

cudaError_t cudaStreamSynchronize(void *s) {
  ENSURE(current);
  log_line("cudaStreamSynchronize");
  wait_until(stream_of(s)->busy_until);
  return 0;
}

cudaError_t cudaStreamQuery(void *s) { return now_us() < stream_of(s)->busy_until ? cudaErrorNotReady : 0; }

cudaError_t cudaStreamGetPriority(void *s, int *p) {
  *p = 0;
  return 0;
}

cudaError_t cudaStreamWaitEvent(void *s, void *e, unsigned f) {
  stream_t *x = stream_of(s);
  event_t *v = e;
  if (!x->capturing && x->busy_until < v->t) x->busy_until = v->t;
  return 0;
}

cudaError_t cudaStreamAddCallback(void *s, void *c, void *u, unsigned f) { return 0; }

cudaError_t cudaLaunchHostFunc(void *s, void (*f)(void *), void *u) {
  f(u);
  return 0;
}

static cudaError_t make_event(void **e) {
  ENSURE(current);
  event_t *x = calloc(1, sizeof *x);
  x->dev = current;
  *e = x;
  return 0;
}

cudaError_t cudaEventCreate(void **e) { return make_event(e); }
cudaError_t cudaEventCreateWithFlags(void **e, unsigned f) { return make_event(e); }
cudaError_t cudaEventDestroy(void *e) { return 0; }

static cudaError_t record_event(event_t *e, void *s_) {
  ENSURE(current);
  stream_t *s = stream_of(s_);
  if (e->dev != s->dev) {
    log_line("EVENT of dev%d on stream of dev%d", e->dev, s->dev);
    return last_error = cudaErrorInvalidResourceHandle;
  }
  double n = now_us();
  e->t = s->busy_until > n ? s->busy_until : n;
  e->recorded = 1;
  log_line("cudaEventRecord on dev%d stream %s", s->dev, s->is_default ? "default" : "own");
  return 0;
}

cudaError_t cudaEventRecord(void *e, void *s) { return record_event(e, s); }
cudaError_t cudaEventRecordWithFlags(void *e, void *s, unsigned f) { return record_event(e, s); }
cudaError_t cudaEventQuery(void *e) { return now_us() < ((event_t *)e)->t ? cudaErrorNotReady : 0; }

cudaError_t cudaEventSynchronize(void *e) {
  wait_until(((event_t *)e)->t);
  return 0;
}

cudaError_t cudaEventElapsedTime(float *ms, void *a, void *b) {
  event_t *x = a, *y = b;
  if (!x->recorded || !y->recorded) return last_error = cudaErrorInvalidResourceHandle;
  if (now_us() < y->t) return cudaErrorNotReady;
  *ms = (y->t - x->t) / 1e3;
  return 0;
}

// ---- graphs: a captured graph is a number of launches, each of which takes half a kernel's time when it is replayed

static unsigned long long next_capture_id = 1;

cudaError_t cudaStreamBeginCapture(void *s, int m) {
  stream_t *x = stream_of(s);
  ENSURE(current);
  x->capturing = 1;
  x->capture_id = next_capture_id++;
  x->count = 0;
  log_line("BEGIN CAPTURE");
  return 0;
}

cudaError_t cudaStreamBeginCaptureToGraph(void *s, ...) { return cudaStreamBeginCapture(s, 0); }

cudaError_t cudaStreamEndCapture(void *s, void **g) {
  stream_t *x = stream_of(s);
  graph_t *y = calloc(1, sizeof *y);
  y->count = x->count;
  x->capturing = 0;
  *g = y;
  log_line("END CAPTURE of %ld launches", y->count);
  return 0;
}

cudaError_t cudaStreamGetCaptureInfo(void *s, int *status, unsigned long long *id, void **g, void ***deps, void **ed,
                                     size_t *n) {
  stream_t *x = stream_of(s);
  if (status) *status = x->capturing ? 1 : 0;
  if (id) *id = x->capture_id;
  static graph_t gg;
  if (g) *g = &gg;
  static void *dd[1];
  if (deps) *deps = dd;
  if (ed) *ed = 0;
  if (n) *n = 0;
  return 0;
}

cudaError_t cudaStreamIsCapturing(void *s, int *st_) {
  *st_ = stream_of(s)->capturing ? 1 : 0;
  return 0;
}

cudaError_t cudaStreamUpdateCaptureDependencies(void *s, ...) { return 0; }
cudaError_t cudaThreadExchangeStreamCaptureMode(int *m) { return 0; }

cudaError_t cudaGraphInstantiateWithFlags(void **e, void *g, unsigned long long f) {
  graph_t *y = calloc(1, sizeof *y);
  *y = *(graph_t *)g;
  *e = y;
  log_line("GRAPH INSTANTIATE");
  return 0;
}

cudaError_t cudaGraphLaunch(void *e, void *s) {
  ENSURE(current);
  stream_t *x = stream_of(s);
  double c = ((graph_t *)e)->count;
  if (x->dev != current) return last_error = cudaErrorInvalidResourceHandle;
  enqueue(x, 2 + c * kernel_us * 0.5);
  log_line("GRAPH LAUNCH of %g on %s", c, x->is_default ? "default" : "own");
  return 0;
}

cudaError_t cudaGraphDestroy(void *g) { return 0; }

cudaError_t cudaGraphExecDestroy(void *g) {
  log_line("GRAPH EXEC DESTROY");
  return 0;
}

cudaError_t cudaGraphGetNodes(void *g, void **n, size_t *c) {
  *c = ((graph_t *)g)->count;
  return 0;
}

cudaError_t cudaGraphAddNode(void **n, ...) { return 0; }

cudaError_t cudaGraphNodeGetDependencies(void *n, void **d, void *e, size_t *c) {
  *c = 0;
  return 0;
}

cudaError_t cudaGraphDebugDotPrint(void *g, const char *p, unsigned f) { return 0; }
cudaError_t cudaGraphConditionalHandleCreate(void *h, ...) { return 0; }

// ---- kernels: their code is registered and compiled, never run

typedef struct {
  unsigned x, y, z;
} dim3_t;

cudaError_t cudaLaunchKernel(const void *f, dim3_t g, dim3_t b, void **a, size_t m, void *s) {
  return last_error = fake_launch(s);
}

cudaError_t __cudaLaunchKernel(void *f, dim3_t g, dim3_t b, void **a, size_t m, void *s) {
  return last_error = fake_launch(s);
}

cudaError_t cudaLaunchCooperativeKernel(const void *f, dim3_t g, dim3_t b, void **a, size_t m, void *s) {
  return last_error = fake_launch(s);
}

typedef struct {
  dim3_t g, b;
  size_t m;
  void *s;
  void *attrs;
  unsigned n;
} launch_config;

cudaError_t cudaLaunchKernelExC(const launch_config *c, const void *f, void **a) {
  return last_error = fake_launch(c->s);
}

static __thread struct {
  dim3_t g, b;
  size_t m;
  void *s;
} pushed;

unsigned __cudaPushCallConfiguration(dim3_t g, dim3_t b, size_t m, void *s) {
  pushed.g = g;
  pushed.b = b;
  pushed.m = m;
  pushed.s = s;
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3_t *g, dim3_t *b, size_t *m, void *s) {
  *g = pushed.g;
  *b = pushed.b;
  *m = pushed.m;
  *(void **)s = pushed.s;
  return 0;
}

void **__cudaRegisterFatBinary(void *f) {
  static void *x[1];
  return x;
}

void __cudaRegisterFatBinaryEnd(void **h) {}
void __cudaUnregisterFatBinary(void **h) {}
void __cudaRegisterFunction(void **h, ...) {}
void __cudaRegisterVar(void **h, ...) {}
char __cudaInitModule(void **h) { return 1; }

cudaError_t __cudaGetKernel(void **k, const void *f) {
  *k = (void *)f;
  return 0;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->binaryVersion = 90;
  a->ptxVersion = 90;
  return 0;
}

cudaError_t cudaFuncSetAttribute(const void *f, int a, int v) { return 0; }
cudaError_t cudaKernelSetAttributeForDevice(void *k, int a, int v, int d) { return 0; }

cudaError_t cudaLibraryLoadData(void **l, ...) {
  *l = (void *)1;
  return 0;
}

cudaError_t cudaLibraryGetKernel(void **k, ...) {
  *k = (void *)1;
  return 0;
}

cudaError_t cudaLibraryUnload(void *l) { return 0; }

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *f, int b, size_t d) {
  *n = 2;
  return 0;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int b, size_t d, unsigned g) {
  *n = 2;
  return 0;
}

cudaError_t cudaProfilerStart() { return 0; }
cudaError_t cudaProfilerStop() { return 0; }

cudaError_t cudaGetDriverEntryPointByVersion(const char *s, void **p, unsigned v, unsigned long long f, int *q) {
  static void *h;
  if (!h) h = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  *p = h ? dlsym(h, s) : 0;
  if (q) *q = *p ? 0 : 1;
  return *p ? 0 : cudaErrorSymbolNotFound;
}
