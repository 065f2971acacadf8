//! A process's connection to the store, for customers, what they upload, and what is computed for them.

use async_trait::async_trait;
use ports::store::{
    Activity, ActivityStore, BlobRelease, CustomerStore, CustomerUse, JobReport, PartPut, Sender, StoreError, UploadRoom,
    UploadStore,
};
use protocol::blob::{BlobEntry, PutBlob};
use protocol::customer::CustomerRecord;
use protocol::{CustomerName, Digest, Micros};

use super::Database;

#[async_trait]
impl CustomerStore for Database {
    async fn customer(&self, name: &CustomerName) -> Result<Option<CustomerRecord>, StoreError> {
        self.perform("customer", self.inner.customer(name)).await
    }

    async fn customers(&self, after: Option<&CustomerName>, limit: u32) -> Result<Vec<CustomerRecord>, StoreError> {
        self.perform("customers", self.inner.customers(after, limit)).await
    }

    async fn put_customer(&self, record: CustomerRecord) -> Result<(), StoreError> {
        self.perform("put customer", self.inner.put_customer(record)).await
    }

    async fn remove_customer(&self, name: &CustomerName) -> Result<bool, StoreError> {
        self.perform("remove customer", self.inner.remove_customer(name)).await
    }

    async fn customer_use(&self, name: &CustomerName, since: Micros) -> Result<CustomerUse, StoreError> {
        self.perform("customer use", self.inner.customer_use(name, since)).await
    }
}

#[async_trait]
impl UploadStore for Database {
    async fn put_own_part(
        &self,
        sender: Sender<'_>,
        part: &PutBlob,
        room: UploadRoom,
        now: Micros,
    ) -> Result<PartPut, StoreError> {
        self.perform("put own part", self.inner.put_own_part(sender, part, room, now)).await
    }

    async fn own_blob_size(&self, customer: &CustomerName, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.perform("own blob size", self.inner.own_blob_size(customer, digest)).await
    }

    async fn own_blobs(&self, customer: &CustomerName, after: Option<Digest>, limit: u32) -> Result<Vec<BlobEntry>, StoreError> {
        self.perform("own blobs", self.inner.own_blobs(customer, after, limit)).await
    }

    async fn release_blob(
        &self,
        customer: &CustomerName,
        digest: Digest,
        message: Option<&str>,
    ) -> Result<BlobRelease, StoreError> {
        self.perform("release blob", self.inner.release_blob(customer, digest, message)).await
    }

    async fn forget_uploads(&self, before: Micros, limit: u32) -> Result<u32, StoreError> {
        self.perform("forget uploads", self.inner.forget_uploads(before, limit)).await
    }

    async fn forget_handled(&self, before: Micros, limit: u32) -> Result<u32, StoreError> {
        self.perform("forget handled messages", self.inner.forget_handled(before, limit)).await
    }
}

#[async_trait]
impl ActivityStore for Database {
    async fn running(&self, limit: u32) -> Result<Vec<JobReport>, StoreError> {
        self.perform("running jobs", self.inner.running(limit)).await
    }

    async fn activity(&self, since: Micros, limit: u32) -> Result<Activity, StoreError> {
        self.perform("activity", self.inner.activity(since, limit)).await
    }
}
