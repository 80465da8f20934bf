//! `lvsd run --io none`: rules and the control socket, and no packets.
//!
//! A configuration in; the same socket, answers and refusals as those of a director that works, out,
//! until somebody says stop. It needs no rights and touches nothing of the host: for trying rules,
//! scripts and `lvsadm` itself. Synchronisation daemons can be started on the interfaces of the
//! configuration, or of the host, and are listed; like all else here they do nothing.

use crate::config::Config;
use crate::control::{ControlSocket, Rules, reload, serve};
use crate::dataplane::clock;
use crate::run::{RunError, SECOND, notify, reread, system};
use lvs_director::{Director, DirectorConfig};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

/// Runs until SIGTERM or SIGINT; SIGHUP reads the rules of the file at `path` again.
pub(crate) async fn run(mut config: Config, path: Option<&Path>) -> Result<(), RunError> {
    let socket = ControlSocket::bind_as(&config.control)?;
    let director = Director::new(&DirectorConfig {
        connections: config.capacity,
        workers: 1,
    })?;
    let interfaces = config.dataplane.interfaces.clone();
    let interfaces = interfaces.unwrap_or_else(interfaces_of_host);
    let rules = Rules::new(Arc::clone(&director), || {}).practising(&interfaces);
    let rules = Arc::new(rules);
    reload::apply(&config, &*rules)?;

    let mut end = signal(SignalKind::terminate()).map_err(system("cannot take signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot take signals"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("cannot take signals"))?;
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let (stop, stopped) = oneshot::channel::<()>();
    let backend = Arc::clone(&rules);
    let serving = tokio::spawn(async move {
        let ended = async { stopped.await.unwrap_or(()) };
        if let Err(why) = serve(&socket, backend, ended).await {
            error!("the control socket is out of order: {why}");
        }
        drop(socket);
    });
    info!("ready, without packets: {}", config.summary());
    notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = hangup.recv() => reread(path, &mut config, &rules),
            _ = second.tick() => director.tick(clock::now()),
        }
    }
    info!("stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    let _ = stop.send(());
    let _ = serving.await;
    Ok(())
}

/// The interfaces of this network namespace; none if they cannot be listed.
fn interfaces_of_host() -> Vec<String> {
    let Ok(all) = std::fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|interface| interface.file_name().into_string().ok())
        .collect()
}
