// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Both files as one, to compare with.
#define WHOLE
#include "tables_main.bpf.c"
#include "tables_lib.bpf.c"
