//! Which crate may use which: the drawing in `docs/architecture.md`, held against what the
//! manifests say.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::tool;

/// A crate and those of ours it may depend on. Tests and benchmarks may use anything.
const ARROWS: &[(&str, &[&str])] = &[
    ("skep-isa", &[]),
    ("skep-btf", &[]),
    ("skep-abi", &["skep-isa", "skep-btf"]),
    ("skep-object", &["skep-isa", "skep-btf", "skep-abi"]),
    ("skep-vm", &["skep-isa", "skep-btf", "skep-abi", "skep-object"]),
    ("skep-kernel", &["skep-isa", "skep-btf", "skep-abi", "skep-object"]),
    ("skep", &["skep-isa", "skep-btf", "skep-abi", "skep-object", "skep-vm", "skep-kernel"]),
    (
        "skep-cli",
        &["skep", "skep-isa", "skep-btf", "skep-abi", "skep-object", "skep-vm", "skep-kernel"],
    ),
    ("skep-testing", &[]),
    ("xtask", &["skep-abi"]),
];

/// Compares the table with `cargo metadata`.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut cargo = tool::cargo();
    cargo.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&tool::output(&mut cargo)?)?;
    let wrong = violations(&metadata).context("cargo metadata is not as expected")?;
    ensure!(wrong.is_empty(), "arrows that should not be:\n  {}", wrong.join("\n  "));
    println!("{} crates, no arrow points upwards", ARROWS.len());
    Ok(())
}

fn violations(metadata: &Value) -> Option<Vec<String>> {
    let packages = metadata.get("packages")?.as_array()?;
    let names: Vec<&str> = packages.iter().filter_map(|p| p.get("name")?.as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package.get("name")?.as_str()?;
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            wrong.push(format!("{name} has no row in xtask/src/arrows.rs"));
            continue;
        };
        for dependency in package.get("dependencies")?.as_array()? {
            // `null` is a normal dependency; "dev" and "build" are the others.
            let normal = dependency.get("kind").is_none_or(Value::is_null);
            let to = dependency.get("name")?.as_str()?;
            if normal && names.contains(&to) && !allowed.contains(&to) {
                wrong.push(format!("{name} -> {to}"));
            }
        }
    }
    Some(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arrow_upwards_is_found_and_a_test_dependency_is_not_one() {
        let metadata = json!({"packages": [
            {"name": "skep-isa", "dependencies": [
                {"name": "skep-vm", "kind": null},
                {"name": "skep-abi", "kind": "dev"},
                {"name": "thiserror", "kind": null},
            ]},
            {"name": "skep-vm", "dependencies": [{"name": "skep-isa", "kind": null}]},
            {"name": "skep-abi", "dependencies": []},
            {"name": "skep-new", "dependencies": []},
        ]});
        let wrong = violations(&metadata).expect("well-formed");
        assert_eq!(wrong, ["skep-isa -> skep-vm", "skep-new has no row in xtask/src/arrows.rs"]);
    }
}
