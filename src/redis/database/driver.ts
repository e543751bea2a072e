/**
 * What the driver calls a connection: to one server, or to the nodes of a cluster.
 */
import type { Cluster, Redis } from "ioredis"

export type Driver = Redis | Cluster

export const isCluster = (driver: Driver): driver is Cluster => driver.isCluster
