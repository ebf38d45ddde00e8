// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// An XDP packet classifier. It counts packets under the names that tcpdump's filter language
// uses, so that each counter can be compared with `tcpdump -r FILE NAME | wc -l`, keeps one
// counter per flow, and drops UDP packets to one port.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Each name is a tcpdump filter; `vlan_ip` stands for 'vlan and ip', `qinq` for 'vlan and vlan'.
enum protocol {
	eth,
	arp,
	ip,
	ip6,
	tcp,
	udp,
	icmp,
	icmp6,
	vlan,
	vlan_arp,
	vlan_ip,
	vlan_ip6,
	vlan_tcp,
	vlan_udp,
	vlan_icmp,
	vlan_icmp6,
	qinq,
	protocol_count,
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

// IPv4 addresses are stored in their IPv6-mapped form. Ports are in host order, and 0 where a
// packet has none: other protocols, later fragments, cut headers.
struct flow {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 family;
	__u16 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, protocol_count);
	__type(key, enum protocol);
	__type(value, struct counter);
} protocols SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, protocol_count);
	__type(key, enum protocol);
	__type(value, struct counter);
} protocols_percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, struct counter);
} flows SEC(".maps");

// The UDP destination port whose packets are dropped; 0 drops nothing.
const volatile __u16 drop_udp_port = 9;

// Packets dropped, and flows that found the table full.
__u64 dropped;
__u64 flows_lost;

struct vlan_header {
	__be16 tci;
	__be16 protocol;
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

static __always_inline void count(enum protocol protocol, __u64 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(&protocols, &protocol);

	if (counter) {
		__sync_fetch_and_add(&counter->packets, 1);
		__sync_fetch_and_add(&counter->bytes, bytes);
	}
	counter = bpf_map_lookup_elem(&protocols_percpu, &protocol);
	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

static __always_inline void count_flow(const struct flow *flow, __u64 bytes)
{
	struct counter first = { .packets = 1, .bytes = bytes };
	struct counter *counter = bpf_map_lookup_elem(&flows, flow);

	if (counter) {
		__sync_fetch_and_add(&counter->packets, 1);
		__sync_fetch_and_add(&counter->bytes, bytes);
	} else if (bpf_map_update_elem(&flows, flow, &first, BPF_NOEXIST)) {
		__sync_fetch_and_add(&flows_lost, 1);
	}
}

static __always_inline void count_transport(__u8 protocol, int v6, int tagged, __u64 bytes)
{
	if (protocol == IPPROTO_TCP)
		count(tagged ? vlan_tcp : tcp, bytes);
	else if (protocol == IPPROTO_UDP)
		count(tagged ? vlan_udp : udp, bytes);
	else if (protocol == IPPROTO_ICMP && !v6)
		count(tagged ? vlan_icmp : icmp, bytes);
	else if (protocol == IPPROTO_ICMPV6 && v6)
		count(tagged ? vlan_icmp6 : icmp6, bytes);
}

static __always_inline void read_ports(struct flow *flow, void *transport, void *end)
{
	struct udphdr *ports = transport;

	if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP)
		return;
	// The ports are the first four bytes of both headers.
	if (transport + 4 > end)
		return;
	flow->source_port = bpf_ntohs(ports->source);
	flow->destination_port = bpf_ntohs(ports->dest);
}

static __always_inline int classify_ip(void *network, void *end, int tagged, __u64 bytes,
				       struct flow *flow)
{
	struct iphdr *header = network;

	count(tagged ? vlan_ip : ip, bytes);
	if ((void *)(header + 1) > end)
		return 0;
	count_transport(header->protocol, 0, tagged, bytes);

	flow->family = 4;
	flow->protocol = header->protocol;
	flow->source[10] = flow->source[11] = 0xff;
	flow->destination[10] = flow->destination[11] = 0xff;
	__builtin_memcpy(&flow->source[12], &header->saddr, 4);
	__builtin_memcpy(&flow->destination[12], &header->daddr, 4);
	if (header->ihl >= 5 && !(header->frag_off & bpf_htons(0x1fff)))
		read_ports(flow, network + header->ihl * 4, end);
	return 1;
}

static __always_inline int classify_ip6(void *network, void *end, int tagged, __u64 bytes,
					struct flow *flow)
{
	struct ipv6hdr *header = network;
	void *transport = header + 1;
	int first = 1;

	count(tagged ? vlan_ip6 : ip6, bytes);
	if (transport > end)
		return 0;
	flow->family = 6;
	flow->protocol = header->nexthdr;
	if (header->nexthdr == IPPROTO_FRAGMENT) {
		struct fragment_header *fragment = transport;

		transport = fragment + 1;
		if (transport > end)
			return 0;
		flow->protocol = fragment->next;
		first = !(fragment->offset & bpf_htons(0xfff8));
	}
	count_transport(flow->protocol, 1, tagged, bytes);
	__builtin_memcpy(flow->source, &header->saddr, 16);
	__builtin_memcpy(flow->destination, &header->daddr, 16);
	if (first)
		read_ports(flow, transport, end);
	return 1;
}

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD) ||
	       protocol == bpf_htons(0x9100);
}

SEC("xdp")
int classify(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	void *network = ethernet + 1;
	__u64 bytes = end - data;
	struct flow flow = {};
	__be16 protocol;
	int tagged = 0, known = 0;

	if (network > end)
		return XDP_PASS;
	count(eth, bytes);
	protocol = ethernet->h_proto;

	if (is_vlan(protocol)) {
		struct vlan_header *tag = network;

		count(vlan, bytes);
		network = tag + 1;
		if (network > end)
			return XDP_PASS;
		protocol = tag->protocol;
		tagged = 1;
		if (is_vlan(protocol)) {
			count(qinq, bytes);
			return XDP_PASS;
		}
	}

	if (protocol == bpf_htons(ETH_P_ARP))
		count(tagged ? vlan_arp : arp, bytes);
	else if (protocol == bpf_htons(ETH_P_IP))
		known = classify_ip(network, end, tagged, bytes, &flow);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		known = classify_ip6(network, end, tagged, bytes, &flow);
	if (!known)
		return XDP_PASS;

	count_flow(&flow, bytes);
	if (drop_udp_port && flow.protocol == IPPROTO_UDP &&
	    flow.destination_port == drop_udp_port) {
		__sync_fetch_and_add(&dropped, 1);
		return XDP_DROP;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
