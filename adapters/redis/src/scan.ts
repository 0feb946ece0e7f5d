/**
 * Reads all pages of a SCAN. A key may come more than once, as Redis says.
 */

/** `page` sends the SCAN with a cursor; `visit` gets each key of its reply. */
export async function scanKeys(
  page: (cursor: string) => Promise<unknown>,
  visit: (key: string) => void,
): Promise<void> {
  for (let cursor = '0'; ; ) {
    const [next, keys] = (await page(cursor)) as [Buffer, Buffer[]];
    for (const key of keys) visit(key.toString());
    cursor = next.toString();
    if (cursor === '0') return;
  }
}
