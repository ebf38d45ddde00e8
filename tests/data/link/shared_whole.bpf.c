// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Both files as one, to compare with.
#define WHOLE
#define scale main_scale
#define own main_own
#include "shared_main.bpf.c"
#undef scale
#undef own
#include "shared_lib.bpf.c"
