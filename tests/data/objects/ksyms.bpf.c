// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Functions and variables of the kernel and its modules, some of them declared wrongly.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!sym)
#endif

char _license[] SEC("license") = "GPL";

/* Whole types: a mere declaration is another kind of type than the kernel's. */
struct nf_conn {
	unsigned long status;
};

union nf_inet_addr {
	__u32 all[4];
};

enum nf_nat_manip_type {
	NF_NAT_MANIP_SRC,
};

struct bpf_ct_opts___skep {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *ctx, struct bpf_sock_tuple *tuple,
					 __u32 tuple_size, struct bpf_ct_opts___skep *opts,
					 __u32 opts_size) __ksym;
extern void bpf_ct_release(struct nf_conn *nfct) __ksym;
extern int bpf_ct_set_nat_info(struct nf_conn *nfct, union nf_inet_addr *addr, int port,
			       enum nf_nat_manip_type manip) __ksym __weak;
extern void bpf_no_such_function(void) __ksym __weak;
/* The kernel's has no argument. */
extern void bpf_rcu_read_lock(int) __ksym __weak;
extern void bpf_rcu_read_unlock___wrong(int) __ksym;
/* The kernel's is a structure. */
extern const int runqueues __ksym;
extern const int bpf_prog_active __ksym;

int error;

SEC("?xdp")
int lookup(struct xdp_md *ctx)
{
	struct bpf_ct_opts___skep opts = { .netns_id = -1, .l4proto = 6 };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct;

	ct = bpf_xdp_ct_lookup(ctx, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (ct)
		bpf_ct_release(ct);
	error = opts.error;
	return XDP_PASS;
}

SEC("?xdp")
int weak(struct xdp_md *ctx)
{
	if (bpf_ksym_exists(bpf_no_such_function))
		bpf_no_such_function();
	if (bpf_ksym_exists(bpf_rcu_read_lock))
		bpf_rcu_read_lock(1);
	return XDP_TX;
}

SEC("?xdp")
int variable(struct xdp_md *ctx)
{
	int *active = bpf_this_cpu_ptr(&bpf_prog_active);

	return *active ? XDP_PASS : XDP_TX;
}

SEC("?xdp")
int wrong_variable(struct xdp_md *ctx)
{
	int *first = bpf_this_cpu_ptr(&runqueues);

	return *first;
}

SEC("?xdp")
int wrong_function(struct xdp_md *ctx)
{
	bpf_rcu_read_unlock___wrong(1);
	return 0;
}

/* The address of a function that may be a module's. */
SEC("?xdp")
int address(struct xdp_md *ctx)
{
	return bpf_ksym_exists(bpf_ct_set_nat_info) ? XDP_TX : XDP_PASS;
}
