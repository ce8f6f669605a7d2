//! From a connected socket to a session: startup, password, settings.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding as WantedBinding;

use super::error::{Phase, PostgresSourceError, classify};
use super::wire::{Answer, Wire, garbled};

/// As the sessions of the replicas print and read values (`replica/leader.rs`): a value decoded as text here has to mean
/// there what it means here. They are startup parameters, so they win over what the role or the database sets, and over
/// the url's `options`.
///
/// - `statement_timeout`: making a slot waits for all transactions that are open, however long.
const SETTINGS: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("search_path", "pg_catalog"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("statement_timeout", "0"),
];

/// Logs in and waits until the session takes commands.
pub(super) async fn log_in(
    wire: &mut Wire,
    config: &Config,
    settings: &[(&str, &str)],
) -> Result<(), PostgresSourceError> {
    let user =
        config.get_user().ok_or_else(|| PostgresSourceError::Unusable("its url names no user".to_owned()))?;
    let mut parameters = vec![("user", user), ("replication", "database")];
    parameters.push(("application_name", config.get_application_name().unwrap_or("replicator")));
    parameters.extend(config.get_dbname().map(|name| ("database", name)));
    parameters.extend(config.get_options().map(|options| ("options", options)));
    parameters.extend(SETTINGS.iter().chain(settings).copied());
    frontend::startup_message(parameters, wire.output()).map_err(|e| garbled(&e))?;
    wire.flush().await?;
    authenticate(wire, config, user).await?;
    loop {
        if let Message::ReadyForQuery(_) = answer(wire).await? {
            return Ok(());
        }
    }
}

/// The next answer; a refusal is an error.
async fn answer(wire: &mut Wire) -> Result<Message, PostgresSourceError> {
    match wire.answer().await? {
        Answer::Message(message) => Ok(message),
        Answer::Refusal(error) => Err(classify(Phase::Login, error)),
        Answer::CopyBoth => Err(PostgresSourceError::Protocol("a stream begins before the login".to_owned())),
    }
}

async fn authenticate(wire: &mut Wire, config: &Config, user: &str) -> Result<(), PostgresSourceError> {
    if config.get_channel_binding() == WantedBinding::Require {
        let reason = "its url asks for channel binding, which this version does not have";
        return Err(PostgresSourceError::Unusable(reason.to_owned()));
    }
    let password = || {
        let reason = "the leader asks for a password, and its url has none";
        config.get_password().ok_or_else(|| PostgresSourceError::Unusable(reason.to_owned()))
    };
    match answer(wire).await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword => {
            frontend::password_message(password()?, wire.output()).map_err(|e| garbled(&e))?;
            wire.flush().await?;
        }
        Message::AuthenticationMd5Password(body) => {
            let hash = md5_hash(user.as_bytes(), password()?, body.salt());
            frontend::password_message(hash.as_bytes(), wire.output()).map_err(|e| garbled(&e))?;
            wire.flush().await?;
        }
        Message::AuthenticationSasl(body) => scram(wire, &body, password()?).await?,
        _ => {
            let reason = "the leader asks for a kind of login other than a password or SCRAM-SHA-256";
            return Err(PostgresSourceError::Unusable(reason.to_owned()));
        }
    }
    match answer(wire).await? {
        Message::AuthenticationOk => Ok(()),
        _ => Err(unexpected()),
    }
}

/// SCRAM-SHA-256 (RFC 5802 and 7677), which also proves to us that the server knows the password.
async fn scram(
    wire: &mut Wire,
    body: &AuthenticationSaslBody,
    password: &[u8],
) -> Result<(), PostgresSourceError> {
    let offered = body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256)).map_err(|e| garbled(&e))?;
    if !offered {
        let reason = "the leader offers no SCRAM-SHA-256 without channel binding";
        return Err(PostgresSourceError::Unusable(reason.to_owned()));
    }
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), wire.output())
        .map_err(|e| garbled(&e))?;
    wire.flush().await?;
    let Message::AuthenticationSaslContinue(body) = answer(wire).await? else { return Err(unexpected()) };
    scram.update(body.data()).map_err(|e| garbled(&e))?;
    frontend::sasl_response(scram.message(), wire.output()).map_err(|e| garbled(&e))?;
    wire.flush().await?;
    let Message::AuthenticationSaslFinal(body) = answer(wire).await? else { return Err(unexpected()) };
    scram.finish(body.data()).map_err(|e| garbled(&e))
}

fn unexpected() -> PostgresSourceError {
    PostgresSourceError::Protocol("the login does not go on as it should".to_owned())
}
