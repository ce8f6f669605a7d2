//! What an operator can do to a replica, in words: what will happen, and what has.

/// Something that an operator does to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The replicator applies nothing more there.
    Pause,
    /// Ends [`Action::Pause`].
    Resume,
    /// Copies tables afresh from the leader.
    Rebuild,
    /// This application sends no reads there.
    Drain,
    /// Ends [`Action::Drain`].
    Return,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Rebuild, Self::Drain, Self::Return];

    /// From an address or a form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.label() == text)
    }

    /// For addresses and forms.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rebuild => "rebuild",
            Self::Drain => "drain",
            Self::Return => "return",
        }
    }

    /// For a button.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Rebuild => "Copy afresh",
            Self::Drain => "Drain",
            Self::Return => "Return",
        }
    }

    /// Whether it is the replicator that does it, and not this application.
    pub fn needs_replicator(self) -> bool {
        matches!(self, Self::Pause | Self::Resume | Self::Rebuild)
    }

    /// Whether it only ends what was done before.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Resume | Self::Return)
    }

    /// What would not have happened when it failed: "replica-2 was not paused".
    pub fn undone(self, replica: &str) -> String {
        let participle = match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Rebuild => "copied",
            Self::Drain => "drained",
            Self::Return => "returned",
        };
        format!("{replica} was not {participle}")
    }

    /// What will happen, for who is asked whether it shall: a sentence each. `table` is the only one meant; `tables` are
    /// all that the replica is known to have.
    pub fn consequences(self, replica: &str, table: Option<&str>, tables: &[(String, i64)]) -> Vec<String> {
        match self {
            Self::Pause => vec![
                format!("Nothing more becomes visible on {replica} until somebody resumes it; it grows older by the second."),
                "Reads that need something newer go to other replicas or to the leader; other reads still go there. Drain it, \
                 too, to keep them away."
                    .to_owned(),
                "The leader, or the broker, keeps what it misses: don't forget it.".to_owned(),
            ],
            Self::Resume => {
                vec![format!("{replica} goes on where it stood, and takes in what it missed as fast as it can.")]
            }
            Self::Rebuild => rebuild(replica, table, tables),
            Self::Drain => vec![
                format!("This web application sends no more reads to {replica}. Reads that are under way end undisturbed."),
                "Changes are still applied there. Other programs that read from it are not told.".to_owned(),
                "It is remembered until somebody returns it, or until this web application starts anew.".to_owned(),
            ],
            Self::Return => vec![format!("{replica} gets its share of the reads again.")],
        }
    }

    /// What has happened; `changed`: it was not so before.
    pub fn done(self, replica: &str, changed: bool) -> String {
        match (self, changed) {
            (Self::Pause, true) => format!("{replica} stands still until somebody resumes it."),
            (Self::Pause, false) => format!("{replica} was paused already."),
            (Self::Resume, true) => format!("{replica} goes on."),
            (Self::Resume, false) => format!("{replica} was not paused."),
            (Self::Rebuild, _) => {
                format!("A copy was asked for. {replica} begins with it in a moment; this page follows it.")
            }
            (Self::Drain, true) => format!("{replica} gets no more reads until somebody returns it."),
            (Self::Drain, false) => format!("{replica} was drained already."),
            (Self::Return, true) => format!("{replica} gets reads again."),
            (Self::Return, false) => format!("{replica} was not drained."),
        }
    }
}

fn rebuild(replica: &str, table: Option<&str>, tables: &[(String, i64)]) -> Vec<String> {
    let of = |(name, rows): &(String, i64)| format!("{name} (about {rows} rows)");
    let known: Vec<String> =
        tables.iter().filter(|(name, _)| table.is_none_or(|table| table == name)).map(of).collect();
    let what = match (table, known.as_slice()) {
        (Some(_), [one]) => format!("One table of {replica} is copied afresh from the leader: {one}."),
        (Some(table), _) => format!("One table of {replica} is copied afresh from the leader: {table}."),
        (None, []) => format!("All tables of {replica} are copied afresh from the leader."),
        (None, all) => {
            format!(
                "All {} tables of {replica} are copied afresh from the leader: {}.",
                all.len(),
                all.join(", ")
            )
        }
    };
    vec![
        what,
        "The old rows of a table stay visible until its new ones are all there. What differs from the leader is gone then, \
         and what the quarantine held for it is settled."
            .to_owned(),
        "Meanwhile the replica is being copied and gets no reads; the leader is read in one long transaction.".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_label_and_says_what_it_does() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.label()), Some(action));
            let all = action.consequences("replica-2", None, &[]).join(" ");
            assert!(all.contains("replica-2"), "{all}");
            assert!(action.done("replica-2", true).contains("replica-2"));
            assert!(action.undone("replica-2").starts_with("replica-2 was not "));
        }
        assert_eq!(Action::parse("destroy"), None);
    }

    #[test]
    fn a_copy_names_the_tables_it_is_about() {
        let tables = [("public.posts".to_owned(), 7), ("public.likes".to_owned(), 0)];
        let all = Action::Rebuild.consequences("replica-2", None, &tables);
        assert_eq!(
            all[0],
            "All 2 tables of replica-2 are copied afresh from the leader: public.posts (about 7 rows), public.likes \
             (about 0 rows)."
        );
        let one = Action::Rebuild.consequences("replica-2", Some("public.posts"), &tables);
        assert!(one[0].contains("public.posts (about 7 rows)") && !one[0].contains("likes"), "{}", one[0]);
    }
}
