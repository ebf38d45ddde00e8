//! The tables of `skep-abi` as Markdown: what there is, since when, and what skep does without it.

use skep_abi::{AttachType, LinkType, MapType, ProgType, Release, helper, section::SECTIONS};

/// What skep does on a kernel without a feature, by the kernel's name of it. What is not here ends
/// the load or the attaching with an error that names it.
const WITHOUT: &[(&str, &str)] = &[
    (
        "BPF_LINK_TYPE_RAW_TRACEPOINT",
        "the descriptor of the raw tracepoint, which cannot be pinned",
    ),
    ("BPF_LINK_TYPE_TRACING", "the descriptor of a raw tracepoint without a name"),
    ("BPF_LINK_TYPE_CGROUP", "`BPF_PROG_ATTACH`"),
    ("BPF_LINK_TYPE_XDP", "netlink"),
    ("BPF_LINK_TYPE_PERF_EVENT", "the perf event is told the program: no pin, no cookie"),
    ("BPF_LINK_TYPE_TCX", "a filter on the clsact qdisc"),
    ("BPF_LINK_TYPE_SOCKMAP", "`BPF_PROG_ATTACH`"),
    ("BPF_LINK_TYPE_STRUCT_OPS", "the map's value is written: no pin, no replacing"),
    ("BPF_LINK_TYPE_UPROBE_MULTI", "static probes (USDT) get a uprobe for each place"),
    ("BPF_TCX_INGRESS", "a filter on the clsact qdisc"),
    ("BPF_TCX_EGRESS", "a filter on the clsact qdisc"),
    ("bpf_get_attach_cookie", "`LINUX_HAS_BPF_COOKIE` is 0 for programs that ask"),
];

/// One row.
struct Feature {
    name: String,
    kernel_name: String,
    since: Option<Release>,
}

macro_rules! rows {
    ($ty:ident) => {
        $ty::ALL.iter().filter(|t| t.kernel_name().is_some_and(|n| !n.ends_with("UNSPEC"))).map(
            |t| Feature {
                name: t.to_string(),
                kernel_name: t.kernel_name().unwrap_or_default().to_owned(),
                since: t.since(),
            },
        )
    };
}

/// All tables.
pub(super) fn markdown() -> String {
    let maps = MapType::ALL.iter().filter(|&&t| t != MapType::UNSPEC).map(|t| Feature {
        name: t.to_string(),
        kernel_name: format!("BPF_MAP_TYPE_{}", t.to_string().to_uppercase()),
        since: t.since(),
    });
    let mut text = String::new();
    text += &table("Program types", rows!(ProgType));
    text += &table("Attach types", rows!(AttachType));
    text += &table("Link types", rows!(LinkType));
    text += &table("Map types", maps);
    text += &helpers();
    text
}

fn table(title: &str, rows: impl Iterator<Item = Feature>) -> String {
    let mut text = format!("### {title}\n\n| name | Linux | without it |\n| --- | --- | --- |\n");
    for row in rows {
        let since = row.since.map_or_else(|| "not known".to_owned(), |since| since.to_string());
        let without = WITHOUT.iter().find(|(name, _)| *name == row.kernel_name);
        let without = match without {
            Some((_, what)) => what,
            None if is_optional(&row.kernel_name) => "programs are loaded without it",
            None => "error",
        };
        text += &format!("| `{}` | {since} | {without} |\n", row.name);
    }
    text + "\n"
}

/// Is it an attach type that a section's name implies, and that older kernels do without?
fn is_optional(kernel_name: &str) -> bool {
    AttachType::by_name(kernel_name).is_some_and(|attach_type| {
        let mut rows = SECTIONS.iter().filter(|def| def.attach_type == Some(attach_type));
        rows.any(|def| def.flags.attach_type_optional())
    })
}

/// By release: there are too many for a row each.
fn helpers() -> String {
    let mut text = String::from("### Helpers\n\n| Linux | helpers |\n| --- | --- |\n");
    for release in helper::PROTOS.chunk_by(|a, b| a.since() == b.since()) {
        let Some(first) = release.first() else { continue };
        let names: Vec<String> = release.iter().map(|p| format!("`{}`", p.name)).collect();
        text += &format!("| {} | {} |\n", first.since(), names.join(", "));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_without_a_feature_belongs_to_a_feature() {
        let known = |name: &str| {
            LinkType::by_name(name).is_some()
                || AttachType::by_name(name).is_some()
                || ProgType::by_name(name).is_some()
                || helper::by_name(name.trim_start_matches("bpf_")).is_some()
        };
        for (name, _) in WITHOUT {
            assert!(known(name), "{name}");
        }
    }

    #[test]
    fn every_table_has_its_rows() {
        let text = markdown();
        for row in [
            "| `xdp` | 4.8 | error |",
            "| `tcx` | 6.6 | a filter on the clsact qdisc |",
            "| `arena` | 6.9 | error |",
            "| 6.2 | `cgrp_storage_get`, `cgrp_storage_delete` |",
        ] {
            assert!(text.contains(row), "{row}");
        }
    }
}
