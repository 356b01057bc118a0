// DERL_HOST_DEVICE marks mathematics that both a C++ compiler and nvcc build.
#pragma once

#ifdef __CUDACC__
#define DERL_HOST_DEVICE __host__ __device__
#else
#define DERL_HOST_DEVICE
#endif
