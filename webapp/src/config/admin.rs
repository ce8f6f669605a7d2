//! Settings of what can be operated from the pages.

use serde::Deserialize;

use super::secret::AdminToken;

/// What can be operated from the pages and the API: nothing, unless there is a token. A token that is empty counts as none
/// (compose can't leave a variable out).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Who knows it may take replicas out of the rotation, and more with `replicator_token`; at least 16 characters.
    pub token: Option<AdminToken>,
    /// The replicator's `http.admin_token`, with which replicas are paused, resumed and copied afresh. It is sent to
    /// `status.replicator_url` only, and no person needs to know it.
    pub replicator_token: Option<AdminToken>,
}

impl AdminConfig {
    /// The token that people and programs have to bring, when there is one.
    pub fn token(&self) -> Option<&AdminToken> {
        self.token.as_ref().filter(|token| !token.expose().is_empty())
    }

    /// The replicator's token, when there is one.
    pub fn replicator_token(&self) -> Option<&AdminToken> {
        self.replicator_token.as_ref().filter(|token| !token.expose().is_empty())
    }

    /// What is wrong with it.
    pub(super) fn complaints(&self, has_replicator: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.token().is_some_and(|token| token.expose().len() < 16) {
            complaints
                .push("admin.token: must have at least 16 characters, so that nobody guesses it".to_owned());
        }
        if self.replicator_token().is_some() && !has_replicator {
            complaints
                .push("admin.replicator_token: needs status.replicator_url, where it is sent".to_owned());
        }
        complaints
    }
}
