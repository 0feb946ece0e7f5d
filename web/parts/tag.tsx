/** A state as a word and a mark: each state has another shape, so that no two differ by colour alone. */
export type Tone = 'good' | 'warn' | 'bad' | 'idle' | 'busy';

const MARKS: Record<Tone, string> = { good: '●', warn: '▲', bad: '■', idle: '○', busy: '◐' };

export function Tag({ tone, children }: { tone: Tone; children: string }) {
  return (
    <span class={`tag tag-${tone}`}>
      <span aria-hidden="true">{MARKS[tone]}</span> {children}
    </span>
  );
}
