/** A name as the engine keeps it: its UTF-8 bytes, one character each (latin1). */
export function keptName(name: string): string {
  return Buffer.from(name).toString('latin1');
}
