//! Apps: registered by their bytes or by an uploaded blob.

use ports::store::{BlobStore, UploadStore};
use protocol::Digest;
use protocol::app::{AppRegistered, RegisterApp};
use protocol::blob::{BlobDeleted, BlobStored, DeleteBlob, PART_BYTES, PutBlob};
use protocol::customer::CustomerLimits;
use protocol::reply::Accepted;

use crate::world::{MODULE, World, customer, numbers, one, problem};

fn module(bytes: &[u8]) -> RegisterApp {
    RegisterApp { app: None, module: Some(bytes.to_vec()) }
}

#[tokio::test(start_paused = true)]
async fn an_app_is_registered_by_its_bytes_and_jobs_may_use_it() {
    let world = World::new();
    let registered: AppRegistered = world.ask("acme", &module(MODULE)).await;
    assert_eq!((registered.app, registered.reduces), (Digest::of(MODULE), false));
    assert_eq!(registered.manifest.as_deref(), Some("name = \"test\""));
    let accepted: Accepted = world.ask("acme", &numbers(3)).await;
    assert_eq!(accepted.items, 3);
}

#[tokio::test(start_paused = true)]
async fn an_app_is_registered_by_an_uploaded_blob() {
    let world = World::new();
    let app = Some(world.upload("acme", MODULE).await);
    let registered: AppRegistered = world.ask("acme", &RegisterApp { app, module: None }).await;
    assert_eq!(Some(registered.app), app);
    // It is not another customer's.
    assert_eq!(world.refused("other", &RegisterApp { app, module: None }).await.code, "no-such-blob");
    let both = RegisterApp { app, module: Some(MODULE.to_vec()) };
    assert_eq!(Some(world.ask::<_, AppRegistered>("acme", &both).await.app), app);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_an_app_is_refused() {
    let world = World::new();
    let bad = world.refused("acme", &module(b"bad")).await;
    assert_eq!((bad.code.as_str(), bad.detail.as_str()), ("app-rejected", "it is bad; very bad"));
    let away = world.refused("acme", &module(b"away")).await;
    assert_eq!((away.code.as_str(), away.retryable), ("publisher-unavailable", true));
    let neither = world.refused("acme", &RegisterApp { app: None, module: None }).await;
    let other = RegisterApp { app: Some(Digest::of(b"other")), module: Some(MODULE.to_vec()) };
    let other = world.refused("acme", &other).await;
    for problem in [neither, other] {
        assert_eq!((problem.code.as_str(), problem.errors[0].pointer.as_str()), ("invalid-request", "/app"));
    }
    world.limit("small", 1, CustomerLimits { stored_bytes: 4, ..CustomerLimits::default() }).await;
    assert_eq!(world.refused("small", &module(MODULE)).await.code, "storage-full");
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_delivered_again_after_a_deletion_brings_nothing_back() {
    let world = World::new();
    let long = [MODULE, &vec![0_u8; PART_BYTES]].concat();
    for bytes in [MODULE, &long] {
        // The second finds the module there, by the first.
        let letters = [world.letter("acme", &module(bytes)), world.letter("acme", &module(bytes))];
        for letter in &letters {
            assert_eq!(one::<AppRegistered>(&world.send(letter).await).app, Digest::of(bytes));
        }
        world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest: Digest::of(bytes) }).await;
        for letter in &letters {
            assert_eq!(problem(&world.send(letter).await).code, "already-handled");
        }
        assert_eq!(world.store.own_blobs(&customer("acme"), None, 10).await.unwrap(), []);
        world.ask::<_, AppRegistered>("acme", &module(bytes)).await;
        assert!(world.has_blob(Digest::of(bytes)).await, "a new message sends it anew");
        world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest: Digest::of(bytes) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_found_its_module_is_known_at_each_part() {
    let world = World::new();
    let long = [MODULE, &vec![0_u8; PART_BYTES]].concat();
    let (digest, size) = (Digest::of(&long), u64::try_from(long.len()).unwrap());
    world.ask::<_, AppRegistered>("acme", &module(&long)).await;
    let letter = world.letter("acme", &module(&long));
    one::<AppRegistered>(&world.send(&letter).await);
    world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest }).await;
    // Its first part is sent anew: delivered again, the registration does not bring the rest.
    let first = PutBlob { digest, size, offset: 0, data: long[..PART_BYTES].to_vec() };
    assert!(!world.ask::<_, BlobStored>("acme", &first).await.whole);
    assert_eq!(problem(&world.send(&letter).await).code, "already-handled");
    assert!(!world.has_blob(digest).await);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_nobody_owns_stays_everybodys() {
    let world = World::new();
    let (app, size) = (Digest::of(MODULE), u64::try_from(MODULE.len()).unwrap());
    assert!(world.store.put_part(app, size, 0, MODULE).await.unwrap());
    for name in ["acme", "other"] {
        assert_eq!(world.ask::<_, AppRegistered>(name, &module(MODULE)).await.app, app);
        assert_eq!(world.store.own_blobs(&customer(name), None, 10).await.unwrap(), []);
        assert_eq!(world.store.own_blob_size(&customer(name), app).await.unwrap(), Some(size));
    }
}
