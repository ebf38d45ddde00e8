//! One measurement, several ways to make it: what a machine can decides.
//!
//! A [`Plan`] is a table, best way first. Attaching it tries the ways in order, by doing: the
//! programs of a way are loaded and attached, and when the kernel refuses one, what was done for
//! this way is undone and the next is tried. What comes back says which way was taken, why not
//! those before it, and what is lost by it.
//!
//! ```no_run
//! use skep_kernel::{LoadOptions, Object, Target, plan::{Plan, Way}, target};
//! # let spec = skep_object::ObjectSpec::parse(&[])?;
//!
//! const OPENS: Plan<'_> = Plan {
//!     what: "files opened",
//!     ways: &[
//!         Way { programs: &["by_fentry"], loses: "" },
//!         Way { programs: &["by_kprobe"], loses: "a little time at each open" },
//!         Way { programs: &["by_tracepoint"], loses: "opens by other calls than openat" },
//!         Way { programs: &[], loses: "files that are closed again between two looks at /proc" },
//!     ],
//! };
//!
//! let resolved = target::resolve(spec)?;
//! let options = LoadOptions::default();
//! let mut object = Object::load(&resolved, &options)?;
//! let taken = OPENS.attach(&mut object, resolved.spec(), &options, &Target::Section)?;
//! println!("{taken}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{error::Error, fmt, fmt::Write as _};

use skep_object::ObjectSpec;

use crate::{
    error::LoadError,
    link::{AttachError, Link, Target, attach},
    object::{LoadOptions, Object},
};

/// What is measured, and the ways to measure it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The measurement, in the words of a report: "files opened".
    pub what: &'a str,
    /// The ways, best first.
    pub ways: &'a [Way<'a>],
}

/// One way to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// Programs of the object that do it together, each attached where its section says. The
    /// object should leave them out when it is loaded, by a `?` in their section names. None: the
    /// caller measures without a program; this way always works.
    pub programs: &'a [&'a str],
    /// What is lost against the first way, in the words of a report; empty for nothing.
    pub loses: &'a str,
}

/// The way that was taken. Dropping it detaches.
#[derive(Debug)]
pub struct Taken {
    /// The measurement.
    pub what: String,
    /// Which of the plan's ways, from 0.
    pub way: usize,
    /// What is lost by it; empty for nothing.
    pub loses: String,
    /// Its programs, attached.
    pub links: Vec<Link>,
    /// Why not the ways before it, in order.
    pub failed: Vec<Failed>,
}

/// Why a way was not taken.
#[derive(Debug)]
pub struct Failed {
    /// Which of the plan's ways, from 0.
    pub way: usize,
    /// The program that the kernel refused.
    pub program: String,
    /// Its section.
    pub section: String,
    /// Why.
    pub reason: Reason,
}

/// What was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// To load it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// To attach it.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Nothing: the engine has no hooks.
    #[error("the embedded engine has no hooks")]
    NoHooks,
}

/// No way of a plan was taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The plan names a program that the object does not have.
    #[error("the plan for {what} names program '{program}', which the object does not have")]
    NoProgram {
        /// The measurement.
        what: String,
        /// The program.
        program: String,
    },
    /// This machine can none of its ways.
    #[error("this system has no way to measure {what}{}", reasons(failed))]
    NoWay {
        /// The measurement.
        what: String,
        /// Why not each of them.
        failed: Vec<Failed>,
    },
}

impl Plan<'_> {
    /// Every program that one of the ways names.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.ways.iter().flat_map(|way| way.programs.iter().copied())
    }

    /// Takes the first way that works. `spec` is what the object was loaded from, `options` what
    /// its other programs were loaded with; `target` is for programs whose section does not say
    /// it all: [`Target::Process`] limits probes to a process.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when a name is wrong, or no way works. What was tried is undone.
    pub fn attach(
        &self,
        object: &mut Object,
        spec: &ObjectSpec,
        options: &LoadOptions,
        target: &Target<'_>,
    ) -> Result<Taken, PlanError> {
        self.take(spec, |way| way.attach(object, spec, options, target))
    }

    /// Takes the first way that needs no program: for an engine that has no hooks.
    ///
    /// # Errors
    ///
    /// As for [`Plan::attach`].
    pub fn without_programs(&self, spec: &ObjectSpec) -> Result<Taken, PlanError> {
        self.take(spec, |way| match way.programs {
            [] => Ok(Vec::new()),
            [first, ..] => Err((first, Box::new(Reason::NoHooks))),
        })
    }

    fn take<'w>(
        &'w self,
        spec: &ObjectSpec,
        mut attach: impl FnMut(&Way<'w>) -> Result<Vec<Link>, (&'w str, Box<Reason>)>,
    ) -> Result<Taken, PlanError> {
        let what = || self.what.to_owned();
        let find = |name: &str| spec.programs.iter().find(|program| program.name == name);
        if let Some(program) = self.programs().find(|name| find(name).is_none()) {
            return Err(PlanError::NoProgram { what: what(), program: program.to_owned() });
        }
        let mut failed = Vec::new();
        for (index, way) in self.ways.iter().enumerate() {
            match attach(way) {
                Ok(links) => {
                    let loses = way.loses.to_owned();
                    return Ok(Taken { what: what(), way: index, loses, links, failed });
                }
                Err((program, reason)) => {
                    let section = find(program).map(|p| p.section.clone()).unwrap_or_default();
                    let program = program.to_owned();
                    failed.push(Failed { way: index, program, section, reason: *reason });
                }
            }
        }
        Err(PlanError::NoWay { what: what(), failed })
    }
}

impl<'a> Way<'a> {
    /// All programs of the way, or none and what was refused.
    fn attach(
        &self,
        object: &mut Object,
        spec: &ObjectSpec,
        options: &LoadOptions,
        target: &Target<'_>,
    ) -> Result<Vec<Link>, (&'a str, Box<Reason>)> {
        let before: Vec<String> = object.programs().iter().map(|p| p.name().to_owned()).collect();
        let one = |&name: &&'a str| {
            let program =
                object.load_program(spec, name, options).map_err(|e| (name, Box::new(e.into())))?;
            attach(&program, target).map_err(|e| (name, Box::new(e.into())))
        };
        let links = self.programs.iter().map(one).collect::<Result<Vec<_>, _>>();
        if links.is_err() {
            let new = self.programs.iter().filter(|name| !before.iter().any(|p| p == **name));
            new.for_each(|name| object.unload_program(name));
        }
        links
    }
}

impl fmt::Display for Taken {
    /// `files opened: by tracepoint/…; lost: …; not by fentry/…: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hooks: Vec<&str> = self.links.iter().map(Link::hook).collect();
        let hooks = if hooks.is_empty() { "without a program".into() } else { hooks.join(" and ") };
        write!(f, "{}: {hooks}", self.what)?;
        if !self.loses.is_empty() {
            write!(f, "; lost: {}", self.loses)?;
        }
        f.write_str(&reasons(&self.failed))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not by {}: {}", self.section.trim_start_matches('?'), self.reason)?;
        let mut cause = self.reason.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn reasons(failed: &[Failed]) -> String {
    let mut text = String::new();
    for failed in failed {
        // Writing to a string does not fail.
        let _ = write!(text, "; {failed}");
    }
    text
}
