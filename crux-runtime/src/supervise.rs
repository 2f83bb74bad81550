//! Tasks that everything else depends on. If one died by itself, the process would continue as if
//! nothing had happened, accept requests and do nothing with them; so the process ends with it, and
//! the next one recovers. Tasks of one client's connection are not spawned here.
//!
//! A task that has to go on until its end is requested (a consumer, housekeeping) is started by
//! [`keep_running`]: for it, a return is as bad as a panic. What does one thing and is done (a
//! delivery, a write) is started by [`spawn`].

use std::any::Any;
use std::fmt::Display;
use std::io::Write;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::error;

use crate::telemetry;

/// As [`spawn`], for work that must not end before `is_stopping`: if it returns earlier, the process
/// ends. An aborted task has been asked to end.
pub(crate) fn keep_running<F>(
    what: &'static str,
    is_stopping: impl Fn() -> bool + Send + 'static,
    work: F,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn(what, async move {
        work.await;
        if !is_stopping() {
            end_process(&format!("{what} ended although nothing had requested it"));
        }
    })
}

/// For a task of [`keep_running`] that is only ever aborted.
pub(crate) fn never() -> bool {
    false
}

/// As [`tokio::spawn`], for work that is done when it returns; a panic in it ends the process.
/// `what` is for the log.
pub(crate) fn spawn<F>(what: &'static str, work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_on(&Handle::current(), what, work)
}

/// As [`spawn`], from a thread that is not the runtime's.
pub(crate) fn spawn_on<F>(runtime: &Handle, what: &'static str, work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime.spawn(async move {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(output) => output,
            Err(panic) => end_process(&format!(
                "{what} panicked: {}",
                panic_text(&*panic).unwrap_or("no reason given")
            )),
        }
    })
}

/// For a thread that everything else depends on: a panic in `work` ends the process.
pub(crate) fn guard<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(output) => output,
        Err(panic) => end_process(&format!(
            "{what} panicked: {}",
            panic_text(&*panic).unwrap_or("no reason given")
        )),
    }
}

/// Ends the process immediately, as a crash would. Nothing acknowledged is lost by that.
pub(crate) fn end_process(reason: &dyn Display) -> ! {
    error!(%reason, "process ends because it cannot continue safely; restart it");
    if !telemetry::flush() {
        // This process writes no log. If standard error fails too, the exit status says it.
        let _ = writeln!(std::io::stderr(), "the process ends: {reason}");
    }
    std::process::abort()
}

/// What a panic says, if it is text.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const VICTIM: &str = "CRUX_TEST_SUPERVISE_VICTIM";

    fn sources(folder: &std::path::Path, look: &mut impl FnMut(&std::path::Path, &str)) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, look);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                look(&path, text.split("#[cfg(test)]").next().unwrap_or_default());
            }
        }
    }

    #[test]
    fn only_connections_are_spawned_without_supervision() {
        // A connection that dies is one client's loss.
        const CONNECTIONS: &str = "ingress/listen.rs";
        let mut spawning = Vec::new();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        sources(&folder, &mut |path, text| {
            let is_test = path
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("tests"))
                || text.contains("#[tokio::test");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            if !is_test && code.into_iter().any(|line| line.contains("tokio::spawn(")) {
                spawning.push(path.strip_prefix(&folder).unwrap().display().to_string());
            }
        });
        assert_eq!(spawning, [CONNECTIONS]);
    }

    /// Runs this test once more in a separate process, which it ends.
    #[tokio::test]
    async fn a_task_that_panics_ends_the_process() {
        if std::env::var_os(VICTIM).is_some() {
            super::spawn("a test's task", async { panic!("an accident") });
            return tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let this = "supervise::tests::a_task_that_panics_ends_the_process";
        let mut victim = Command::new(std::env::current_exe().unwrap());
        let ended =
            victim.args([this, "--exact"]).env(VICTIM, "1").stdout(Stdio::null()).output().unwrap();
        assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
        let log = String::from_utf8(ended.stderr).unwrap();
        assert!(log.contains("the process ends: a test's task panicked: an accident"), "{log}");
    }

    #[tokio::test]
    async fn a_task_that_ends_before_its_end_is_requested_ends_the_process() {
        if std::env::var_os(VICTIM).is_some() {
            super::keep_running("a test's task", || false, async {});
            return tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let this =
            "supervise::tests::a_task_that_ends_before_its_end_is_requested_ends_the_process";
        let mut victim = Command::new(std::env::current_exe().unwrap());
        let ended =
            victim.args([this, "--exact"]).env(VICTIM, "1").stdout(Stdio::null()).output().unwrap();
        assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
        let log = String::from_utf8(ended.stderr).unwrap();
        let why = "the process ends: a test's task ended although nothing had requested it";
        assert!(log.contains(why), "{log}");
    }

    #[tokio::test]
    async fn a_task_whose_end_is_requested_ends_alone() {
        let (stop, mut stopping) = tokio::sync::watch::channel(false);
        let probe = stopping.clone();
        let is_stopping = move || *probe.borrow();
        let task = super::keep_running("a test's task", is_stopping, async move {
            let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
        });
        stop.send_replace(true);
        task.await.unwrap();
    }

    /// As above, of a process that logs where nothing can be written.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_log_that_cannot_be_written_keeps_no_process_from_ending() {
        if std::env::var_os(VICTIM).is_some() {
            crate::telemetry::begin(&crate::telemetry::Log::default()).unwrap();
            super::spawn("a test's task", async { panic!("an accident") });
            return tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let this = "supervise::tests::a_log_that_cannot_be_written_keeps_no_process_from_ending";
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let (_unread, mut stalled) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut stalled, &[b'x'; 64 << 10]).unwrap();
        for log in [Stdio::from(full), Stdio::from(closed), Stdio::from(stalled)] {
            let began = std::time::Instant::now();
            let mut victim = Command::new(std::env::current_exe().unwrap());
            let status = victim
                .args([this, "--exact"])
                .env(VICTIM, "1")
                .stdout(Stdio::null())
                .stderr(log)
                .status()
                .unwrap();
            assert_eq!(status.signal(), Some(6), "{status}");
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
    }
}
