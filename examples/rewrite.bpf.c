// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A TC program that changes packets: it decrements TTL and hop limit, marks a DSCP, and
// translates one destination address and port, keeping every checksum right.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IP_OFFSET sizeof(struct ethhdr)

enum action {
	seen,
	ttl_decremented,
	ttl_expired,
	hop_limit_decremented,
	hop_limit_expired,
	dscp_marked,
	address_translated,
	port_translated,
	failed,
	action_count,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, action_count);
	__type(key, enum action);
	__type(value, __u64);
} actions SEC(".maps");

// The DSCP given to every IPv4 packet (46 is expedited forwarding); 0 leaves it alone.
const volatile __u8 dscp = 46;

// Packets to this address and port go to the other one. All in host order.
const volatile __u32 public_address = 0xc0000250; // 192.0.2.80
const volatile __u32 inner_address = 0xc6336450;  // 198.51.100.80
const volatile __u16 public_port = 8080;
const volatile __u16 inner_port = 80;

static __always_inline void done(enum action action)
{
	__u64 *count = bpf_map_lookup_elem(&actions, &action);

	if (count)
		__sync_fetch_and_add(count, 1);
}

// Stores `size` bytes and mends the IPv4 header checksum.
static __always_inline int set_ip_u16(struct __sk_buff *skb, __u32 offset, __be16 from, __be16 to)
{
	if (bpf_l3_csum_replace(skb, IP_OFFSET + offsetof(struct iphdr, check), from, to, 2))
		return -1;
	return bpf_skb_store_bytes(skb, IP_OFFSET + offset, &to, sizeof(to), 0);
}

static __always_inline int translate(struct __sk_buff *skb, const struct iphdr *ip)
{
	__u32 transport = IP_OFFSET + ip->ihl * 4;
	__be32 from_address = ip->daddr, to_address = bpf_htonl(inner_address);
	__be16 from_port = 0, to_port = bpf_htons(inner_port);
	__u64 mangled = 0;
	__u32 check;

	if (ip->daddr != bpf_htonl(public_address))
		return 0;
	if (ip->protocol == IPPROTO_TCP) {
		check = transport + offsetof(struct tcphdr, check);
	} else if (ip->protocol == IPPROTO_UDP) {
		check = transport + offsetof(struct udphdr, check);
		// A UDP checksum of 0 means none, and stays.
		mangled = BPF_F_MARK_MANGLED_0;
	} else {
		return 0;
	}
	// Fragments are left alone: their checksum is over the whole datagram.
	if (ip->frag_off & bpf_htons(0x3fff))
		return 0;
	if (bpf_skb_load_bytes(skb, transport + offsetof(struct udphdr, dest), &from_port,
			       sizeof(from_port)))
		return 0;
	if (from_port != bpf_htons(public_port))
		return 0;

	if (bpf_l4_csum_replace(skb, check, from_address, to_address,
				BPF_F_PSEUDO_HDR | mangled | sizeof(to_address)) ||
	    bpf_l3_csum_replace(skb, IP_OFFSET + offsetof(struct iphdr, check), from_address,
				to_address, sizeof(to_address)) ||
	    bpf_skb_store_bytes(skb, IP_OFFSET + offsetof(struct iphdr, daddr), &to_address,
				sizeof(to_address), 0))
		return -1;
	done(address_translated);
	if (bpf_l4_csum_replace(skb, check, from_port, to_port, mangled | sizeof(to_port)) ||
	    bpf_skb_store_bytes(skb, transport + offsetof(struct udphdr, dest), &to_port,
				sizeof(to_port), 0))
		return -1;
	done(port_translated);
	return 0;
}

static __always_inline int rewrite_ip(struct __sk_buff *skb)
{
	struct iphdr ip;
	__be16 from, to;

	if (bpf_skb_load_bytes(skb, IP_OFFSET, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return TC_ACT_OK;
	if (ip.ttl <= 1) {
		done(ttl_expired);
		return TC_ACT_SHOT;
	}
	if (translate(skb, &ip))
		goto failed;

	// TTL and protocol are one 16-bit word of the checksum, version and TOS are another.
	from = bpf_htons(ip.ttl << 8 | ip.protocol);
	to = bpf_htons((ip.ttl - 1) << 8 | ip.protocol);
	if (set_ip_u16(skb, offsetof(struct iphdr, ttl), from, to))
		goto failed;
	done(ttl_decremented);

	if (dscp) {
		__u8 first = ip.version << 4 | ip.ihl;
		__u8 tos = dscp << 2 | (ip.tos & 3);

		from = bpf_htons(first << 8 | ip.tos);
		to = bpf_htons(first << 8 | tos);
		if (from != to) {
			if (set_ip_u16(skb, 0, from, to))
				goto failed;
			done(dscp_marked);
		}
	}
	return TC_ACT_OK;

failed:
	done(failed);
	return TC_ACT_OK;
}

static __always_inline int rewrite_ip6(struct __sk_buff *skb)
{
	struct ipv6hdr *ip6;
	void *data, *end;

	// Direct access: make the headers linear first, then read the pointers again.
	if (bpf_skb_pull_data(skb, IP_OFFSET + sizeof(*ip6)))
		return TC_ACT_OK;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	ip6 = data + IP_OFFSET;
	if ((void *)(ip6 + 1) > end || ip6->version != 6)
		return TC_ACT_OK;
	if (ip6->hop_limit <= 1) {
		done(hop_limit_expired);
		return TC_ACT_SHOT;
	}
	ip6->hop_limit -= 1;
	done(hop_limit_decremented);
	return TC_ACT_OK;
}

static __always_inline int rewrite_packet(struct __sk_buff *skb)
{
	done(seen);
	// A tag may stand in the packet or beside it; tagged packets are not for this program.
	if (skb->vlan_present)
		return TC_ACT_OK;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return rewrite_ip(skb);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return rewrite_ip6(skb);
	return TC_ACT_OK;
}

SEC("tc")
int rewrite(struct __sk_buff *skb)
{
	return rewrite_packet(skb);
}

// The same for kernels with tcx links. The question mark keeps it from being loaded by default,
// so that a packet is not rewritten twice.
SEC("?tcx/ingress")
int rewrite_tcx(struct __sk_buff *skb)
{
	return rewrite_packet(skb);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
