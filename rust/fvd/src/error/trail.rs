//! The files through which an error passed. In a long chain, those in the middle are only counted.

/// The most steps that are shown.
const MOST: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    /// The outermost first.
    shown: Vec<String>,
    /// How many are left out after the first.
    left_out: usize,
}

impl Trail {
    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// Adds the step that led to the others.
    pub(super) fn push(&mut self, step: &str) {
        self.shown.insert(0, step.to_owned());
        if self.shown.len() > MOST {
            self.shown.remove(1);
            self.left_out += 1;
        }
    }

    /// The steps as text. Empty if there are none.
    pub(super) fn text(&self) -> String {
        let mut shown = self.shown.clone();
        match self.left_out {
            0 => {}
            1 => shown.insert(1, "(1 more file between)".to_owned()),
            count => shown.insert(1, format!("({count} more files between)")),
        }
        shown.join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(steps: usize) -> String {
        let mut trail = Trail::default();
        (0..steps).for_each(|step| trail.push(&step.to_string()));
        trail.text()
    }

    #[test]
    fn the_middle_of_a_long_trail_is_only_counted() {
        assert_eq!(text(0), "");
        assert_eq!(text(4), "3: 2: 1: 0");
        assert_eq!(text(5), "4: (1 more file between): 2: 1: 0");
        assert_eq!(text(200), "199: (196 more files between): 2: 1: 0");
    }
}
