//! Whether the shards answer: for supervisors that restart a hanging process and load balancers
//! that route around it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Core;
use super::message::Message;

/// The questions that shards have not answered yet; at most one for each.
pub(super) type LivenessProbes = Mutex<Vec<Option<Probe>>>;

#[derive(Debug)]
pub(super) struct Probe {
    asked_at: Instant,
    /// `None`: the shard's inbox is full, and it has not been asked.
    answer: Option<oneshot::Receiver<()>>,
}

impl Core {
    /// Whether every shard answers, soon. The error is for people.
    pub(super) async fn answers(&self, limit: Duration) -> Result<(), String> {
        let asked = self.inboxes.iter().map(|inbox| async {
            let (reply, answer) = oneshot::channel();
            inbox.send(Message::Ping(reply)).await.map_err(|_| ())?;
            answer.await.map_err(|_| ())
        });
        match tokio::time::timeout(limit, join_all(asked)).await {
            Ok(answers) if answers.iter().all(Result::is_ok) => Ok(()),
            Ok(_) => Err("a part of the engine is gone".to_owned()),
            Err(_) => Err(format!("the engine has not answered for {} s", limit.as_secs())),
        }
    }

    /// For how long a shard has not answered, without waiting; `None`: a shard has ended. Asks
    /// shards without a pending question, so that the next call knows.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        silent_for(&self.probes, &self.inboxes)
    }
}

fn silent_for(probes: &LivenessProbes, inboxes: &[mpsc::Sender<Message>]) -> Option<Duration> {
    let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
    probes.resize_with(inboxes.len(), || None);
    let mut longest = Duration::ZERO;
    for (pulse, inbox) in probes.iter_mut().zip(inboxes) {
        if inbox.is_closed() {
            return None;
        }
        let asked_at = match pulse.take() {
            Some(Probe { asked_at, answer: None }) => asked_at,
            Some(Probe { asked_at, answer: Some(mut answer) }) => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => {
                    longest = longest.max(asked_at.elapsed());
                    *pulse = Some(Probe { asked_at, answer: Some(answer) });
                    continue;
                }
                Ok(()) | Err(oneshot::error::TryRecvError::Closed) => Instant::now(),
            },
            None => Instant::now(),
        };
        longest = longest.max(asked_at.elapsed());
        *pulse = Some(ask(inbox, asked_at));
    }
    Some(longest)
}

fn ask(inbox: &mpsc::Sender<Message>, asked_at: Instant) -> Probe {
    let (reply, answer) = oneshot::channel();
    let answer = inbox.try_send(Message::Ping(reply)).is_ok().then_some(answer);
    Probe { asked_at, answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_answer_is_silent_for_longer_and_longer_and_one_that_is_gone_is_found()
     {
        let (quick, mut quick_inbox) = mpsc::channel(2);
        let (stuck, mut stuck_inbox) = mpsc::channel(1);
        let (probes, inboxes) = (LivenessProbes::default(), [quick, stuck]);
        let silent = || silent_for(&probes, &inboxes);
        let mut answer = || match quick_inbox.try_recv() {
            Ok(Message::Ping(reply)) => reply.send(()),
            _ => Err(()),
        };
        for passed in 0..3 {
            assert_eq!(silent(), Some(SECOND * passed));
            answer().unwrap();
            tokio::time::advance(SECOND).await;
        }
        // It goes on, and answers again.
        let Some(Message::Ping(reply)) = stuck_inbox.recv().await else { panic!("it was asked") };
        reply.send(()).unwrap();
        assert_eq!(silent(), Some(Duration::ZERO));
        answer().unwrap();
        // Full of what others have sent: not asked, and yet silent.
        let Some(Message::Ping(reply)) = stuck_inbox.recv().await else { panic!("it was asked") };
        drop(reply);
        inboxes[1].try_send(Message::Drain).unwrap();
        assert_eq!(silent(), Some(Duration::ZERO));
        tokio::time::advance(SECOND).await;
        assert_eq!(silent(), Some(SECOND));
        drop(stuck_inbox);
        assert_eq!(silent(), None);
    }
}
