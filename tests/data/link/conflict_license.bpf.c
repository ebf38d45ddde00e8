// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "shared.h"

char _license[] SEC("license") = "Dual MIT/GPL";
