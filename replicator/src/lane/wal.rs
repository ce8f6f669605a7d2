//! A lane's reader of the leader's own stream.
//!
//! ```text
//! slot, or a copy of it ─▶ ReplicationStream ─▶ decode ─▶ ParcelBuilder
//!                                               └───── WalCore (pure) ─┘
//! ```
//!
//! The daemon has one durable slot on the leader. The first lane streams from it and tells the leader what all replicas have
//! stored; every other lane streams from a temporary copy, which begins where the durable one stands and so has all that any
//! replica may need. When nobody streams the durable slot any more, a lane changes over to it.

mod confirmed;
mod core;
mod streams;

use std::sync::Arc;

pub(super) use self::confirmed::Confirmed;
use self::core::WalCore;
use super::reader::Reader;
use super::{LaneError, LaneStart};
use crate::decode::pgoutput::{Frame, StatusUpdate, Values};
use crate::source::postgres::{
    PostgresSettings, PostgresSourceError, ReplicationConnection, ReplicationStream, copy_slot, find_slot,
    wire_types,
};
use crate::status::now_ms;
use crate::vocabulary::leader::LeaderRun;
use crate::vocabulary::lsn::Lsn;
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::{Parcel, Passage};
use crate::vocabulary::row::Form;

/// Ticks between looking whether the durable slot is free.
const TICKS_PER_LOOK: u32 = 5;

/// Reads the leader's stream.
#[derive(Debug)]
pub(super) struct WalReader {
    settings: PostgresSettings,
    leader: Option<LeaderRun>,
    stream: ReplicationStream,
    core: WalCore,
    confirmed: Arc<Confirmed>,
    manner: Manner,
    /// When something arrived last, in milliseconds since 1970.
    arrived_at_ms: Option<i64>,
    ticks: u32,
}

/// How a stream is read.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// Whether transactions are read while they run.
    streaming: bool,
    /// Whether values are wanted in binary.
    binary: bool,
}

/// A connection on which a slot can be streamed.
struct Connected {
    connection: ReplicationConnection,
    values: Values,
}

impl Connected {
    async fn start(
        self,
        settings: &PostgresSettings,
        slot: &str,
        position: Lsn,
        streaming: bool,
    ) -> Result<Opened, PostgresSourceError> {
        let form = match self.values {
            Values::Text => Form::Text,
            Values::Binary(_) => Form::Binary,
        };
        let options = settings.stream_options(streaming, form);
        let stream = self.connection.start(slot, position, &options).await?;
        tracing::info!(slot, from = %position, streaming, values = ?form, "reading the leader's stream");
        Ok(Opened { stream, values: self.values })
    }
}

/// A stream, and how its values come.
struct Opened {
    stream: ReplicationStream,
    values: Values,
}

impl WalReader {
    /// Connects and begins to stream from where the replica stands.
    ///
    /// # Errors
    /// When the leader is not there, is another one, or has lost what is needed.
    pub(super) async fn open(
        settings: PostgresSettings,
        start: LaneStart,
        confirmed: Arc<Confirmed>,
    ) -> Result<Self, LaneError> {
        let position = start.watermark.0;
        let leader = start.leader.clone();
        let manner = Manner {
            streaming: settings.streaming && start.streaming,
            binary: settings.binary && start.binary,
        };
        let Opened { stream, values } = match open_slot(&settings, leader.as_ref(), position, manner).await? {
            Some(opened) => opened,
            None => open_copy(&settings, leader.as_ref(), position, manner).await?,
        };
        let core = WalCore::new(start, position, settings.exclude_tables.clone(), values);
        Ok(WalReader { settings, leader, stream, core, confirmed, manner, arrived_at_ms: None, ticks: 0 })
    }

    /// Changes over to the durable slot if nobody streams it.
    async fn take_slot(&mut self) {
        let Some(position) = self.core.resumes_at() else { return };
        if self.stream.slot() == self.settings.slot {
            return;
        }
        match open_slot(&self.settings, self.leader.as_ref(), position, self.manner).await {
            Ok(Some(Opened { stream, values })) => {
                tracing::info!(from = %position, "changed over to the durable slot");
                // What the old stream has sent and was not taken comes again.
                self.stream = stream;
                self.core.reconnected(values);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(error = %error, "the durable slot can't be looked at now"),
        }
    }
}

/// Streams the durable slot; none when it is in use.
async fn open_slot(
    settings: &PostgresSettings,
    leader: Option<&LeaderRun>,
    position: Lsn,
    manner: Manner,
) -> Result<Option<Opened>, PostgresSourceError> {
    let mut connected = connect(settings, leader, manner).await?;
    let connection = &mut connected.connection;
    let identity = connection.identify_system().await?;
    if identity.wal_position < position {
        return Err(PostgresSourceError::WentBack { needed: position, wal_position: identity.wal_position });
    }
    // Without the slot, the refusal to start it says so.
    if let Some(slot) = find_slot(connection, &settings.slot).await? {
        check_held(settings, slot.confirmed_flush.unwrap_or_default(), position)?;
        if slot.active_pid.is_some() {
            connected.connection.close().await;
            return Ok(None);
        }
    }
    match connected.start(settings, &settings.slot, position, manner.streaming).await {
        // Somebody was quicker.
        Err(PostgresSourceError::SlotInUse { .. }) => Ok(None),
        started => started.map(Some),
    }
}

/// Streams a copy of the durable slot, which lives as long as the connection.
async fn open_copy(
    settings: &PostgresSettings,
    leader: Option<&LeaderRun>,
    position: Lsn,
    manner: Manner,
) -> Result<Opened, PostgresSourceError> {
    let mut connected = connect(settings, leader, manner).await?;
    let name = settings.temporary_slot();
    let confirmed = copy_slot(&mut connected.connection, &settings.slot, &name).await?;
    // It may have moved on since it was looked at, though only by what this replica has stored as well.
    check_held(settings, confirmed, position)?;
    connected.start(settings, &name, position, manner.streaming).await
}

/// Whether the durable slot, which has forgotten everything before `confirmed`, holds what is needed from `needed` on.
fn check_held(settings: &PostgresSettings, confirmed: Lsn, needed: Lsn) -> Result<(), PostgresSourceError> {
    if confirmed <= needed {
        return Ok(());
    }
    Err(PostgresSourceError::PositionLost { slot: settings.slot.clone(), needed, confirmed })
}

/// Connects to the run of the leader that the replica was found to go on from.
async fn connect(
    settings: &PostgresSettings,
    leader: Option<&LeaderRun>,
    manner: Manner,
) -> Result<Connected, PostgresSourceError> {
    let mut connection = settings.connect(manner.streaming).await?;
    if let Some(leader) = leader
        && connection.leader_run().await? != *leader
    {
        return Err(PostgresSourceError::StartedAnew);
    }
    let values = if manner.binary {
        Values::Binary(Arc::new(wire_types(&mut connection).await?))
    } else {
        Values::Text
    };
    Ok(Connected { connection, values })
}

impl Reader for WalReader {
    fn names(&self) -> PartitionNames {
        self.core.names()
    }

    fn begins_at_commit(&self) -> bool {
        // A sign of life may have moved the watermark, to a position that no other lane ever names.
        false
    }

    async fn next(&mut self) -> Result<Option<Parcel>, LaneError> {
        loop {
            let Some(frame) = self.stream.try_next()? else { return Ok(None) };
            let parcel = match frame {
                Frame::Data(data) => {
                    let mut parcel = self.core.accept(&data)?;
                    if let Some(point) = parcel.as_mut().and_then(Parcel::commit_point_mut) {
                        let sent_at_ms = Some(data.sent_at_ms);
                        point.passage = Passage { sent_at_ms, read_at_ms: self.arrived_at_ms };
                    }
                    parcel
                }
                Frame::Keepalive(keepalive) => self.core.keepalive(&keepalive),
            };
            if parcel.is_some() {
                return Ok(parcel);
            }
        }
    }

    async fn ready(&mut self) -> Result<(), LaneError> {
        self.stream.ready().await?;
        self.arrived_at_ms = Some(now_ms());
        Ok(())
    }

    async fn tick(&mut self, is_idle: bool) -> Result<(), LaneError> {
        self.ticks = self.ticks.wrapping_add(1);
        if is_idle && self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.take_slot().await;
        }
        let stored = self.confirmed.by_all().unwrap_or_default();
        // Not what has arrived: as long as the leader thinks that something is under way, it says at once how far it is
        // whenever it has nothing more to send, and the watermark follows.
        self.stream.send_status(StatusUpdate {
            written: stored,
            flushed: stored,
            applied: stored,
            reply_requested: is_idle,
        })?;
        Ok(())
    }

    fn waiting_for(&self) -> Option<String> {
        self.core.waiting_for()
    }

    fn duplicates(&self) -> u64 {
        self.core.repeated()
    }

    fn close(self) {}
}
