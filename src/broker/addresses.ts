/** Addresses of brokers, as people may see them. */

/** An address as it may be shown and logged. */
export function withoutPassword(address: string): string {
  return address.replace(/\/\/[^/@]*@/, '//');
}
