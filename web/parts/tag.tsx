/** A state as a word, with a mark whose shape differs for each: the colour only repeats what they say. */
export type Tone = 'good' | 'warn' | 'bad' | 'idle' | 'busy';

const MARKS: Record<Tone, string> = { good: '●', warn: '▲', bad: '■', idle: '○', busy: '◐' };

export function Tag({ tone, children }: { tone: Tone; children: string }) {
  return (
    <span class={`tag tag-${tone}`}>
      <span aria-hidden="true">{MARKS[tone]}</span> {children}
    </span>
  );
}
