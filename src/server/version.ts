/**
 * The versions we show: our own, and that of the Redis whose commands we speak. Clients turn
 * features on by the latter.
 */
export const REDIS_VERSION = '8.10.0';
export const RIVULET_VERSION = '0.1.0';
