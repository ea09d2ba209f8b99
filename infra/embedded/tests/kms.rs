//! Keys: their names, their states, and what they seal.

mod support;

use aws_sdk_kms::Client;
use aws_sdk_kms::error::ProvideErrorMetadata;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyMetadata, KeySpec, KeyState};
use support::{keys, unique};

async fn make(client: &Client) -> KeyMetadata {
    let made = client.create_key().description("for a test").send().await.expect("a key");
    made.key_metadata.expect("metadata")
}

async fn seal(client: &Client, key: &str, app: &str, secret: &str) -> Blob {
    let encrypt = client.encrypt().key_id(key).plaintext(Blob::new(secret)).encryption_context("app", app);
    encrypt.send().await.expect("sealed").ciphertext_blob.expect("a blob")
}

async fn open(
    client: &Client,
    blob: &Blob,
    app: &str,
) -> Result<Vec<u8>, aws_sdk_kms::operation::decrypt::DecryptError> {
    let decrypt = client.decrypt().ciphertext_blob(blob.clone()).encryption_context("app", app);
    let opened = decrypt.send().await.map_err(|error| error.into_service_error())?;
    Ok(opened.plaintext.expect("plaintext").into_inner())
}

#[tokio::test]
async fn a_key_is_described_by_all_its_names() {
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let alias = format!("alias/{}", unique("named"));
    client.create_alias().alias_name(&alias).target_key_id(key.key_id()).send().await.expect("an alias");
    let arn = key.arn().expect("an ARN");
    assert!(arn.starts_with("arn:aws:kms:us-east-1:") && arn.ends_with(&format!(":key/{}", key.key_id())), "{arn}");
    let alias_arn = arn.replace(&format!("key/{}", key.key_id()), &alias);
    for name in [key.key_id(), arn, &alias, &alias_arn] {
        let described = client.describe_key().key_id(name).send().await.expect("described").key_metadata;
        let described = described.expect("metadata");
        assert_eq!(described.key_id(), key.key_id(), "{name}");
        assert_eq!(described.key_state(), Some(&KeyState::Enabled));
        assert_eq!(described.description(), Some("for a test"));
        assert_eq!(described.key_spec(), Some(&KeySpec::SymmetricDefault));
        assert!(described.enabled() && described.creation_date().is_some());
        let blob = seal(&client, name, "a1", "secret").await;
        assert_eq!(open(&client, &blob, "a1").await.expect("opened"), b"secret", "{name}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_said_so() {
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let missing = "00000000-0000-4000-8000-000000000000";
    for name in [missing, "alias/missing", &key.arn().expect("an ARN").replace(key.key_id(), missing)] {
        let error = client.describe_key().key_id(name).send().await.expect_err("no key").into_service_error();
        assert!(error.is_not_found_exception(), "{name}: {error:?}");
        assert!(error.message().is_some_and(|message| !message.is_empty()));
        let error = client.encrypt().key_id(name).plaintext(Blob::new("s")).send().await.expect_err("no key");
        assert!(error.into_service_error().is_not_found_exception(), "{name}");
    }
    let error = client.enable_key().key_id(missing).send().await.expect_err("no key");
    assert!(error.into_service_error().is_not_found_exception());
}

#[tokio::test]
async fn aliases_are_unique_checked_and_listed() {
    let (client, _house) = keys().await;
    let (key, other) = (make(&client).await, make(&client).await);
    let alias = format!("alias/{}", unique("listed"));
    let create = |name: &str, key: &str| client.create_alias().alias_name(name).target_key_id(key).send();
    create(&alias, key.key_id()).await.expect("an alias");
    let error = create(&alias, other.key_id()).await.expect_err("taken").into_service_error();
    assert!(error.is_already_exists_exception(), "{error:?}");
    assert_eq!(create("noprefix", key.key_id()).await.expect_err("refused").code(), Some("ValidationException"));
    if support::other("KMS").is_none() {
        // moto reserves only the names that AWS uses today.
        let reserved = create("alias/aws/mine", key.key_id()).await.expect_err("refused");
        assert_eq!(reserved.code(), Some("NotAuthorizedException"));
    }
    create("alias/with space", key.key_id()).await.expect_err("refused");
    create(&unique("alias/x"), "00000000-0000-4000-8000-000000000000").await.expect_err("no such key");

    let all = client.list_aliases().send().await.expect("a list");
    let found = all.aliases().iter().find(|entry| entry.alias_name() == Some(&alias)).expect("in the list");
    assert_eq!(found.target_key_id(), Some(key.key_id()));
    let of_key = client.list_aliases().key_id(key.key_id()).send().await.expect("a list");
    assert_eq!(of_key.aliases().len(), 1);
    assert!(client.list_aliases().key_id(other.key_id()).send().await.expect("a list").aliases().is_empty());

    client.delete_alias().alias_name(&alias).send().await.expect("deleted");
    assert!(client.describe_key().key_id(&alias).send().await.is_err());
}

#[tokio::test]
async fn the_context_and_every_bit_are_authenticated() {
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let blob = seal(&client, key.key_id(), "a1", "secret").await;
    assert_ne!(blob, seal(&client, key.key_id(), "a1", "secret").await, "a nonce each time");
    for app in ["a2", "", "a1 "] {
        let error = open(&client, &blob, app).await.expect_err("another context");
        assert!(error.is_invalid_ciphertext_exception(), "{error:?}");
    }
    let decrypt = || client.decrypt().ciphertext_blob(blob.clone());
    let without = decrypt().send().await.expect_err("no context").into_service_error();
    assert!(without.is_invalid_ciphertext_exception());
    let more = decrypt().encryption_context("app", "a1").encryption_context("more", "").send().await;
    assert!(more.expect_err("more context").into_service_error().is_invalid_ciphertext_exception());
    only_here!("KMS", "moto joins names and values without their lengths, and its blob has the key id as text");
    // The same letters, cut elsewhere.
    let shifted = decrypt().encryption_context("appa", "1").send().await.expect_err("another context");
    assert!(shifted.into_service_error().is_invalid_ciphertext_exception());

    for position in 0..blob.as_ref().len() {
        let mut damaged = blob.as_ref().to_vec();
        damaged[position] ^= 1;
        let error = open(&client, &Blob::new(damaged), "a1").await.expect_err("damaged");
        assert!(
            error.is_invalid_ciphertext_exception() || error.is_not_found_exception(),
            "byte {position}: {error:?}"
        );
    }
    for length in [1, 16, blob.as_ref().len() - 1] {
        let short = Blob::new(&blob.as_ref()[..length]);
        let error = open(&client, &short, "a1").await.expect_err("cut short");
        assert!(error.is_invalid_ciphertext_exception(), "{length}: {error:?}");
    }
}

#[tokio::test]
async fn the_order_of_the_context_does_not_matter() {
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let context =
        |pairs: [(&str, &str); 3]| Some(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect());
    let encrypt = client.encrypt().key_id(key.key_id()).plaintext(Blob::new("s"));
    let encrypt = encrypt.set_encryption_context(context([("a", "1"), ("b", "2"), ("c", "3")]));
    let blob = encrypt.send().await.expect("sealed").ciphertext_blob.expect("a blob");
    let decrypt = client.decrypt().ciphertext_blob(blob);
    let decrypt = decrypt.set_encryption_context(context([("c", "3"), ("b", "2"), ("a", "1")]));
    assert_eq!(decrypt.send().await.expect("opened").plaintext.expect("plaintext").as_ref(), b"s");
}

#[tokio::test]
async fn decrypting_can_insist_on_the_key() {
    let (client, _house) = keys().await;
    let (key, other) = (make(&client).await, make(&client).await);
    let blob = seal(&client, key.key_id(), "a1", "secret").await;
    let decrypt =
        |key: &str| client.decrypt().key_id(key).ciphertext_blob(blob.clone()).encryption_context("app", "a1").send();
    let opened = decrypt(key.key_id()).await.expect("opened");
    assert_eq!(opened.key_id(), key.arn());
    only_here!("KMS", "moto answers AccessDeniedException; AWS documents IncorrectKeyException");
    let error = decrypt(other.key_id()).await.expect_err("another key").into_service_error();
    assert!(error.is_incorrect_key_exception(), "{error:?}");
}

#[tokio::test]
async fn data_keys_come_sealed_and_in_the_asked_length() {
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let generate = || client.generate_data_key().key_id(key.key_id()).encryption_context("app", "a1");
    for (generate, length) in [
        (generate().key_spec(DataKeySpec::Aes256), 32),
        (generate().key_spec(DataKeySpec::Aes128), 16),
        (generate().number_of_bytes(64), 64),
    ] {
        let made = generate.send().await.expect("a data key");
        let plaintext = made.plaintext.expect("plaintext").into_inner();
        assert_eq!(plaintext.len(), length);
        assert_eq!(made.key_id.as_deref(), key.arn());
        assert_eq!(open(&client, &made.ciphertext_blob.expect("a blob"), "a1").await.expect("opened"), plaintext);
    }
    let sealed = client.generate_data_key_without_plaintext().key_id(key.key_id()).key_spec(DataKeySpec::Aes256);
    let sealed = sealed.encryption_context("app", "a1").send().await.expect("a data key");
    assert_eq!(open(&client, &sealed.ciphertext_blob.expect("a blob"), "a1").await.expect("opened").len(), 32);

    for generate in [
        generate(),
        generate().number_of_bytes(0),
        generate().number_of_bytes(1025),
        generate().number_of_bytes(32).key_spec(DataKeySpec::Aes256),
    ] {
        assert_eq!(generate.send().await.expect_err("refused").code(), Some("ValidationException"));
    }
}

#[tokio::test]
async fn plaintexts_are_limited() {
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let encrypt = |length: usize| client.encrypt().key_id(key.key_id()).plaintext(Blob::new(vec![7; length])).send();
    encrypt(4096).await.expect("the largest");
    assert_eq!(encrypt(4097).await.expect_err("too large").code(), Some("ValidationException"));
    assert_eq!(encrypt(0).await.expect_err("nothing").code(), Some("ValidationException"));
}

#[tokio::test]
async fn disabled_keys_do_nothing_until_enabled() {
    only_here!("KMS", "moto encrypts with disabled keys");
    let (client, _house) = keys().await;
    let key = make(&client).await;
    let blob = seal(&client, key.key_id(), "a1", "secret").await;
    client.disable_key().key_id(key.key_id()).send().await.expect("disabled");
    let described = client.describe_key().key_id(key.key_id()).send().await.expect("described").key_metadata;
    assert_eq!(described.expect("metadata").key_state(), Some(&KeyState::Disabled));
    assert!(open(&client, &blob, "a1").await.expect_err("disabled").is_disabled_exception());
    let encrypt = client.encrypt().key_id(key.key_id()).plaintext(Blob::new("s")).send().await;
    assert!(encrypt.expect_err("disabled").into_service_error().is_disabled_exception());
    let generate = client.generate_data_key().key_id(key.key_id()).key_spec(DataKeySpec::Aes256).send().await;
    assert!(generate.expect_err("disabled").into_service_error().is_disabled_exception());
    client.enable_key().key_id(key.key_id()).send().await.expect("enabled");
    assert_eq!(open(&client, &blob, "a1").await.expect("opened"), b"secret");
}

#[tokio::test]
async fn deletion_is_scheduled_and_can_be_called_off() {
    let (client, house) = keys().await;
    let key = make(&client).await;
    let blob = seal(&client, key.key_id(), "a1", "secret").await;
    let schedule = |days: i32| client.schedule_key_deletion().key_id(key.key_id()).pending_window_in_days(days).send();
    let scheduled = schedule(7).await.expect("scheduled");
    assert!(scheduled.deletion_date().is_some());
    client.cancel_key_deletion().key_id(key.key_id()).send().await.expect("called off");
    let described = client.describe_key().key_id(key.key_id()).send().await.expect("described").key_metadata;
    assert_eq!(described.expect("metadata").key_state(), Some(&KeyState::Disabled));
    only_here!(
        "KMS",
        "moto takes any number of days and uses keys in any state; AWS: 7 to 30, KMSInvalidStateException"
    );
    for days in [6, 31] {
        assert_eq!(schedule(days).await.expect_err("refused").code(), Some("ValidationException"));
    }
    let cancel = client.cancel_key_deletion().key_id(key.key_id()).send().await;
    assert!(cancel.expect_err("not pending").into_service_error().is_kms_invalid_state_exception());

    schedule(7).await.expect("scheduled");
    assert!(open(&client, &blob, "a1").await.expect_err("pending").is_kms_invalid_state_exception());
    let enable = client.enable_key().key_id(key.key_id()).send().await;
    assert!(enable.expect_err("pending").into_service_error().is_kms_invalid_state_exception());
    house.as_ref().expect("the stand-in").advance(std::time::Duration::from_secs(7 * 24 * 60 * 60 + 1));
    let gone = client.describe_key().key_id(key.key_id()).send().await;
    assert!(gone.expect_err("deleted").into_service_error().is_not_found_exception());
}

#[tokio::test]
async fn a_secret_can_move_to_another_key_and_context() {
    let (client, _house) = keys().await;
    let (key, other) = (make(&client).await, make(&client).await);
    let blob = seal(&client, key.key_id(), "a1", "secret").await;
    let moved = client
        .re_encrypt()
        .ciphertext_blob(blob)
        .source_encryption_context("app", "a1")
        .destination_key_id(other.key_id())
        .destination_encryption_context("app", "a2")
        .send()
        .await
        .expect("moved");
    let moved = moved.ciphertext_blob.expect("a blob");
    assert!(open(&client, &moved, "a1").await.is_err());
    assert_eq!(open(&client, &moved, "a2").await.expect("opened"), b"secret");
}

#[tokio::test]
async fn only_symmetric_keys_are_offered() {
    only_here!("KMS", "other emulators offer more");
    let (client, _house) = keys().await;
    let error = client.create_key().key_spec(KeySpec::Rsa2048).send().await.expect_err("refused").into_service_error();
    assert!(error.is_unsupported_operation_exception(), "{error:?}");
}
