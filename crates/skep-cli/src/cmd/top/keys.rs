//! What keys do to the view.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::view::{Sort, View};

/// What a key asks for beside a change of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Quit,
}

/// Applies a key; there are `rows` to scroll through.
pub(super) fn press(view: &mut View, key: KeyEvent, rows: usize) -> Asked {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') { Asked::Quit } else { Asked::Nothing };
    }
    if view.typing {
        type_filter(view, key.code);
        return Asked::Nothing;
    }
    match key.code {
        KeyCode::Char('q') => return Asked::Quit,
        KeyCode::Esc => (view.help, view.filter) = (false, String::new()),
        KeyCode::Char('p' | ' ') => view.paused = !view.paused,
        KeyCode::Char('h' | '?') => view.help = !view.help,
        KeyCode::Char('/') => (view.typing, view.filter) = (true, String::new()),
        KeyCode::Char('s') => view.sort = next(view.sort),
        KeyCode::Down => view.skipped = (view.skipped + 1).min(rows.saturating_sub(1)),
        KeyCode::Up => view.skipped = view.skipped.saturating_sub(1),
        KeyCode::Home => view.skipped = 0,
        KeyCode::Char(c) => {
            if let Some((sort, ..)) = Sort::ALL.iter().find(|(_, key, _)| *key == c) {
                view.sort = *sort;
            }
        }
        _ => {}
    }
    Asked::Nothing
}

/// Longest filter; names are shorter.
const LONGEST: usize = 64;

fn type_filter(view: &mut View, key: KeyCode) {
    match key {
        KeyCode::Enter => view.typing = false,
        KeyCode::Esc => (view.typing, view.filter) = (false, String::new()),
        KeyCode::Backspace => _ = view.filter.pop(),
        KeyCode::Char(c) if view.filter.len() < LONGEST => view.filter.push(c),
        _ => {}
    }
    view.skipped = 0;
}

fn next(sort: Sort) -> Sort {
    let at = Sort::ALL.iter().position(|(s, ..)| *s == sort).unwrap_or(0);
    Sort::ALL.iter().cycle().nth(at + 1).map_or(sort, |(next, ..)| *next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(keys: &[KeyCode]) -> (View, Asked) {
        let mut view = View::default();
        let mut asked = Asked::Nothing;
        for &code in keys {
            asked = press(&mut view, KeyEvent::new(code, KeyModifiers::NONE), 3);
        }
        (view, asked)
    }

    #[test]
    fn a_filter_is_typed_kept_and_dropped() {
        use KeyCode::{Backspace, Char, Enter, Esc};
        let (view, _) = pressed(&[Char('/'), Char('q'), Char('x'), Backspace, Enter]);
        assert_eq!((view.filter.as_str(), view.typing), ("q", false));
        let (view, _) = pressed(&[Char('/'), Char('q'), Esc]);
        assert_eq!((view.filter.as_str(), view.typing), ("", false));
    }

    #[test]
    fn keys_sort_pause_scroll_and_quit() {
        use KeyCode::{Char, Down, Up};
        assert_eq!(pressed(&[Char('m')]).0.sort, Sort::Mean);
        assert_eq!(pressed(&[Char('s')]).0.sort, Sort::Runs);
        assert_eq!(pressed(&[Char('i'), Char('s')]).0.sort, Sort::Cpu);
        assert!(pressed(&[Char(' ')]).0.paused);
        assert_eq!(pressed(&[Down; 9]).0.skipped, 2);
        assert_eq!(pressed(&[Down, Up, Up]).0.skipped, 0);
        assert_eq!(pressed(&[Char('q')]).1, Asked::Quit);
        let mut view = View { typing: true, ..View::default() };
        let stop = KeyEvent::new(Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut view, stop, 0), Asked::Quit);
        // A zero byte is Ctrl-space, and no wish to pause.
        let mut view = View::default();
        press(&mut view, KeyEvent::new(Char(' '), KeyModifiers::CONTROL), 0);
        assert_eq!(view, View::default());
    }
}
