//! The leader's own stream: its publication and its slot.

use super::Finding;
use super::leader::Leader;
use crate::config::Config;

pub(super) async fn check(config: &Config, leader: &mut Leader, findings: &mut Vec<Finding>) {
    if let Err(error) = look(config, leader, findings).await {
        findings.push(Finding::unreachable(
            format!("leader: {error:#}"),
            "Start the leader, or correct leader.url.",
        ));
    }
}

async fn look(config: &Config, leader: &mut Leader, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let source = &config.source;
    let row = leader
        .client
        .query_one(
            "SELECT current_user::text, (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user),
                    EXISTS (SELECT FROM pg_publication WHERE pubname = $1)",
            &[&source.publication],
        )
        .await?;
    let (user, may_replicate, has_publication): (&str, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if !may_replicate {
        findings.push(Finding::error(
            format!("leader: {user} may not read the stream"),
            format!("ALTER ROLE \"{user}\" REPLICATION;"),
        ));
    }
    if has_publication {
        let published = leader.check_publication(&source.publication, &[], findings).await?;
        let names = published.into_iter().map(|table| table.name);
        let captured = names.filter(|name| !source.exclude_tables.contains(name)).collect();
        leader.capture(captured, &source.exclude_tables, findings).await?;
    } else {
        findings.push(Finding::error(
            format!("leader: there is no publication {}", source.publication),
            format!(
                "CREATE PUBLICATION \"{}\" FOR ALL TABLES WITH (publish_via_partition_root = true);  -- or FOR TABLE …",
                source.publication
            ),
        ));
    }
    let row = leader
        .client
        .query_opt(
            "SELECT active, coalesce(wal_status, 'unknown'), plugin = 'pgoutput' AND database = current_database(),
                    pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)),
                    pg_size_pretty(safe_wal_size)
             FROM pg_replication_slots WHERE slot_name = $1",
            &[&source.slot],
        )
        .await?;
    let slot = &source.slot;
    let Some(row) = row else {
        findings.push(Finding::warning(
            format!("leader: there is no slot {slot} yet"),
            "It is made when the first replica is filled. A replica that was filled before needs `replicator rebuild`.",
        ));
        return Ok(());
    };
    let (active, status, is_ours): (bool, &str, bool) = (row.get(0), row.get(1), row.get(2));
    let kept = row.get::<_, Option<&str>>(3).unwrap_or("nothing");
    let headroom = match row.get::<_, Option<&str>>(4) {
        Some(safe) => format!("{safe} may be written before it is lost"),
        None => "without a limit".to_owned(),
    };
    findings.push(match (is_ours, status, active) {
        (false, ..) => Finding::error(
            format!("leader: slot {slot} is not one of pgoutput in this database"),
            "Set source.slot to another name.",
        ),
        (_, "lost", _) => Finding::error(
            format!("leader: slot {slot} was invalidated, changes are lost"),
            "Copy the replicas afresh, which makes the slot anew: replicator rebuild REPLICA",
        ),
        (_, "unreserved", _) => Finding::error(
            format!("leader: slot {slot} keeps {kept} and is about to be lost"),
            "Start what stands still, or: ALTER SYSTEM SET max_slot_wal_keep_size = …; SELECT pg_reload_conf();",
        ),
        (_, _, false) => Finding::warning(
            format!("leader: nobody reads slot {slot}, for which it keeps {kept} of WAL ({headroom})"),
            "Start the replicator.",
        ),
        (_, _, true) => {
            Finding::good(format!("leader: slot {slot} is being read, {kept} of WAL are kept ({headroom})"))
        }
    });
    Ok(())
}
