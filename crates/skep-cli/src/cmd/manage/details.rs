//! What links of each kind tell, in bpftool's words and order.

use std::fmt::Write as _;

use serde::{
    Serialize,
    ser::{SerializeMap as _, Serializer},
};
use serde_json::{Value, json};
use skep::kernel::inspect::{self, LinkInfo};

/// Names and values; as text `name value`, as JSON the members of the link's object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cmd) struct Details(pub(in crate::cmd) Vec<(&'static str, Value)>);

impl Serialize for Details {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// `enum bpf_cgroup_iter_order`.
const ORDERS: &[&str] =
    &["order_unspec", "self_only", "descendants_pre", "descendants_post", "ancestors_up"];

/// `enum perf_type_id`, by bpftool's names.
const EVENT_TYPES: &[&str] =
    &["hardware", "software", "tracepoint", "hw-cache", "raw", "breakpoint"];

/// `enum perf_sw_ids`.
const SOFTWARE: &[&str] = &[
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
    "alignment-faults",
    "emulation-faults",
    "dummy",
    "bpf-output",
    "cgroup-switches",
];

/// `enum perf_hw_id`.
const HARDWARE: &[&str] = &[
    "cpu-cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branch-instructions",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "ref-cycles",
];

/// The name of a number, where it has one.
fn named(names: &[&str], number: u64) -> Value {
    let name = usize::try_from(number).ok().and_then(|n| names.get(n));
    name.map_or_else(|| json!(number), |name| json!(name))
}

impl Details {
    pub(in crate::cmd) fn new(info: &LinkInfo) -> Self {
        let mut all = Self::default();
        all.collect(info, &info.kind().to_string());
        all
    }

    fn put(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        self.0.extend(value.map(|value| (name, value.into())));
    }

    fn collect(&mut self, info: &LinkInfo, kind: &str) {
        let text = info.target_name.clone();
        match kind {
            "raw_tracepoint" => self.put("tp_name", text),
            "tracing" => {
                // bpftool says the program's type, whose link says less.
                let program = inspect::program(info.prog_id).ok().flatten();
                self.put("prog_type", program.map(|p| p.prog_type.to_string()));
            }
            "iter" => self.put("target_name", text),
            "perf_event" => self.event(info, text),
            "kprobe_multi" => self.put("retprobe", info.returns),
            "uprobe_multi" => {
                self.put("retprobe", info.returns);
                self.put("path", text);
            }
            _ => {}
        }
        self.put("map_id", info.map_id);
        self.put("cgroup_id", info.cgroup_id);
        self.put("order", info.order.map(|n| named(ORDERS, n.into())));
        self.put("netns_ino", info.netns_ino);
        if let Some(index) = info.ifindex {
            let name = match index {
                0 => Some("(detached)".to_owned()),
                // In another network namespace the index is that of some other interface.
                _ => inspect::interface_of(info),
            };
            self.put("devname", name);
            self.put("ifindex", Some(index));
        }
        self.put("attach_type", info.attach_type.map(|t| t.to_string()));
        self.put("target_obj_id", info.target_obj_id);
        self.put("target_btf_id", info.target_btf_id);
        if let Some((pf, hook, priority, flags)) = info.netfilter {
            self.put("pf", Some(pf));
            self.put("hook", Some(hook));
            self.put("prio", Some(priority));
            self.put("flags", Some(flags));
        }
        self.put("func_cnt", info.func_count);
        self.put("tid", info.tid);
        self.put("pid", info.pid);
        self.put("missed", info.missed);
        self.put("cookie", info.cookie);
        if !info.functions.is_empty() {
            self.put("funcs", Some(functions(info, kind)));
        }
    }

    fn event(&mut self, info: &LinkInfo, text: Option<String>) {
        self.put("event", info.event);
        self.put("retprobe", info.returns);
        self.put("addr", info.address);
        let name = match info.event {
            Some("uprobe" | "uretprobe") => "file",
            Some("tracepoint") => "tracepoint",
            _ => "func",
        };
        self.put(name, text);
        self.put("offset", info.offset);
        self.put("ref_ctr_offset", info.reference_counter);
        if let Some((event_type, config)) = info.event_config {
            self.put("event_type", Some(named(EVENT_TYPES, event_type.into())));
            let config = match event_type {
                0 => named(HARDWARE, config),
                1 => named(SOFTWARE, config),
                _ => json!(config),
            };
            self.put("event_config", Some(config));
        }
    }

    /// In text, on one line, and the functions on lines of their own.
    pub(in crate::cmd) fn text(&self) -> String {
        let mut line = String::new();
        let mut below = String::new();
        for (name, value) in &self.0 {
            let gap = if line.is_empty() { "" } else { "  " };
            // Writing to a String cannot fail.
            _ = match (*name, value) {
                ("funcs", Value::Array(all)) => {
                    all.iter().try_for_each(|one| write!(below, "\n\t\t{}", members(one)))
                }
                ("tp_name", Value::String(text)) => write!(line, "{gap}tp '{text}'"),
                (_, Value::String(text)) => write!(line, "{gap}{name} {text}"),
                (_, value) => write!(line, "{gap}{name} {value}"),
            };
        }
        line + &below
    }
}

/// An object's members as text.
fn members(value: &Value) -> String {
    let all = value.as_object().into_iter().flatten();
    all.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("  ")
}

fn functions(info: &LinkInfo, kind: &str) -> Value {
    let one = |f: &inspect::Probed| match kind {
        "kprobe_multi" => json!({"addr": f.at, "cookie": f.cookie}),
        _ => json!({
            "offset": f.at,
            "ref_ctr_offset": f.reference_counter,
            "cookie": f.cookie,
        }),
    };
    info.functions.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(link_type: u32, change: impl FnOnce(&mut LinkInfo)) -> LinkInfo {
        let mut info = LinkInfo::default();
        info.link_type = link_type;
        change(&mut info);
        info
    }

    #[test]
    fn only_what_a_kind_has_is_shown() {
        let cgroup = info(3, |l| l.cgroup_id = Some(7));
        assert_eq!(Details::new(&cgroup).text(), "cgroup_id 7");
        let clock = info(7, |l| (l.event, l.event_config) = (Some("event"), Some((1, 0))));
        let text = Details::new(&clock).text();
        assert_eq!(text, "event event  event_type software  event_config cpu-clock");
        assert_eq!(named(SOFTWARE, 99), json!(99));
    }

    #[test]
    fn functions_stand_below_their_link() {
        let one = inspect::Probed { at: 16, reference_counter: 0, cookie: 5 };
        let probes = info(12, |l| (l.func_count, l.functions) = (Some(1), vec![one]));
        let text = Details::new(&probes).text();
        assert_eq!(text, "func_cnt 1\n\t\tcookie 5  offset 16  ref_ctr_offset 0");
    }
}
