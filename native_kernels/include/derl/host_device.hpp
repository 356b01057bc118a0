// DERL_HOST_DEVICE marks mathematics that both a C++ compiler and nvcc build.
//
// Always inlined: the same header is compiled once per processor level, and a function that is not
// inlined would be merged by the linker into one copy, for whichever level came first.
#pragma once

#ifdef __CUDACC__
#define DERL_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DERL_HOST_DEVICE __attribute__((always_inline)) inline
#endif
