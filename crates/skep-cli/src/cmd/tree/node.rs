//! Holders and what they hold, as text and JSON.

use std::fmt;

use serde::Serialize;

/// Something that holds objects.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Root {
    #[serde(flatten)]
    pub(super) holder: HeldBy,
    pub(super) objects: Vec<Node>,
}

/// Who or what holds objects.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum HeldBy {
    Process { pid: u32, comm: String },
    Pin { path: String },
    Hook { hook: String },
    Map { id: u32, map_type: String, name: String },
    Nobody,
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, comm } => write!(f, "{comm}({pid})"),
            Self::Pin { path } => write!(f, "pinned {path}"),
            Self::Hook { hook } => f.write_str(hook),
            Self::Map { id, map_type, name } => write!(f, "in map {id}: {map_type}  {name}"),
            Self::Nobody => f.write_str("held by nobody that can be seen"),
        }
    }
}

impl Root {
    pub(super) fn pid(&self) -> Option<u32> {
        match self.holder {
            HeldBy::Process { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

/// A link, event, program or map, and what it holds.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Node {
    /// `link`, `event`, `prog` or `map`.
    pub(super) kind: &'static str,
    /// Of an event the descriptor in its process.
    pub(super) id: u32,
    #[serde(rename = "type")]
    pub(super) object_type: String,
    /// Name of a program or map, details of a link or event.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) objects: Vec<Self>,
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.holder)?;
        branches(&self.objects, "", f)
    }
}

fn branches(nodes: &[Node], margin: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, node) in nodes.iter().enumerate() {
        let last = n + 1 == nodes.len();
        let (branch, below) = if last { ("└─", "  ") } else { ("├─", "│ ") };
        let Node { kind, id, object_type, name, objects } = node;
        write!(f, "\n{margin}{branch} {kind} {id}: {object_type}")?;
        if !name.is_empty() {
            write!(f, "  {name}")?;
        }
        branches(objects, &format!("{margin}{below} "), f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &'static str, id: u32, objects: Vec<Node>) -> Node {
        Node { kind, id, object_type: "t".into(), name: "n".into(), objects }
    }

    #[test]
    fn branches_are_drawn() {
        let program = node("prog", 2, vec![node("map", 3, vec![]), node("map", 4, vec![])]);
        let holder = HeldBy::Process { pid: 9, comm: "skep".into() };
        let root =
            Root { holder, objects: vec![node("link", 1, vec![program]), node("map", 5, vec![])] };
        let want = "skep(9)\n├─ link 1: t  n\n│  └─ prog 2: t  n\n│     ├─ map 3: t  n\n│     └─ map 4: t  n\n└─ map 5: t  n";
        assert_eq!(root.to_string(), want);
        let json = serde_json::to_value(&root).unwrap();
        assert_eq!((&json["type"], &json["pid"]), (&"process".into(), &9.into()));
        assert_eq!(json["objects"][0]["objects"][0]["objects"][1]["id"], 4);
    }
}
