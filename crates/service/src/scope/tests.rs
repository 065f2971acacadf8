//! Ends of a scope: complete, drained, failed, panicked, late, aborted.

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn request() -> Reason {
    Reason::Request("the test is over".to_owned())
}

#[tokio::test]
async fn it_completes_when_every_task_has_returned() {
    let scope = Scope::new();
    let (sent, received) = tokio::sync::oneshot::channel();
    let inner = scope.clone();
    scope.spawn("outer", async move {
        inner.spawn("inner", async move {
            let _received = sent.send(7);
            Ok(())
        });
        Ok(())
    });
    assert_eq!(scope.join(GRACE).await.expect("complete"), Ended::Completed);
    assert_eq!(received.await, Ok(7), "a task spawned by a task was joined too");
}

#[tokio::test]
async fn a_drain_waits_for_tasks_to_finish_what_they_hold() {
    let scope = Scope::new();
    let (finish, held) = tokio::sync::oneshot::channel::<()>();
    let stopping = scope.stopping();
    scope.spawn_loop("consumer", async move {
        stopping.cancelled().await;
        held.await?;
        Ok(())
    });
    let closing = scope.closing();
    let observed = closing.clone();
    scope.spawn_background("admin", async move {
        closing.cancelled().await;
        Ok(())
    });
    let stopping = scope.stopping();
    scope.spawn("finisher", async move {
        stopping.cancelled().await;
        assert!(!observed.is_cancelled(), "background tasks outlive the drain");
        finish.send(()).map_err(|()| "nobody holds anything")?;
        Ok(())
    });
    scope.drain(Reason::Terminate);
    assert_eq!(scope.join(GRACE).await.expect("drained"), Ended::Drained(Reason::Terminate));
}

#[tokio::test]
async fn a_failed_task_stops_the_others_and_is_named() {
    let scope = Scope::new();
    let stopping = scope.stopping();
    scope.spawn_loop("bystander", async move {
        stopping.cancelled().await;
        Ok(())
    });
    scope.spawn("store", async { Err("disk full".into()) });
    let error = scope.join(GRACE).await.expect_err("failed");
    assert_eq!(error.to_string(), "task store failed");
    let source = std::error::Error::source(&error).expect("source");
    assert_eq!(source.to_string(), "disk full");
}

#[tokio::test]
async fn a_panic_stops_the_others_and_keeps_its_message() {
    let scope = Scope::new();
    let stopping = scope.stopping();
    scope.spawn_loop("bystander", async move {
        stopping.cancelled().await;
        Ok(())
    });
    scope.spawn("dispatch", async { panic!("lane {} is impossible", 9) });
    let error = scope.join(GRACE).await.expect_err("panicked");
    assert_eq!(error.to_string(), "task dispatch panicked: lane 9 is impossible");
}

#[tokio::test]
async fn a_background_failure_counts_too() {
    let scope = Scope::new();
    let stopping = scope.stopping();
    scope.spawn_loop("bystander", async move {
        stopping.cancelled().await;
        Ok(())
    });
    scope.spawn_background("admin", async { Err("address in use".into()) });
    assert_eq!(scope.join(GRACE).await.expect_err("failed").to_string(), "task admin failed");
}

#[tokio::test]
async fn a_loop_that_returns_unasked_is_a_failure() {
    let scope = Scope::new();
    scope.spawn_loop("consumer", async { Ok(()) });
    let error = scope.join(GRACE).await.expect_err("ended early");
    assert_eq!(error.to_string(), "task consumer failed");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_finish_in_time_is_cut_off_and_named() {
    let scope = Scope::new();
    scope.spawn("stubborn", std::future::pending());
    scope.spawn("polite", async { Ok(()) });
    scope.drain(request());
    let error = scope.join(GRACE).await.expect_err("late");
    let text = "drain after the test is over was cut off after 5000 ms with tasks still busy: stubborn";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn an_abort_ends_the_grace_period() {
    let scope = Scope::new();
    scope.spawn("stubborn", std::future::pending());
    let inner = scope.clone();
    scope.spawn("operator", async move {
        inner.drain(Reason::Interrupt);
        inner.abort(Reason::Interrupt);
        std::future::pending().await
    });
    let error = scope.join(Duration::MAX).await.expect_err("aborted");
    assert_eq!(error.to_string(), "aborted by SIGINT with tasks still busy: operator, stubborn");
    scope.spawn("afterwards", async { panic!("a scope that has ended starts nothing") });
}
