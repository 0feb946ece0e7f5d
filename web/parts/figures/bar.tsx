/** Where a share of the largest value is seen at once: a small bar beside its number. */
export function Bar({ value, most }: { value: number | null; most: number }) {
  const share = value === null || most <= 0 ? 0 : Math.min(1, value / most);
  return (
    <span class="bar" aria-hidden="true">
      <span style={{ width: `${(share * 100).toFixed(1)}%` }} />
    </span>
  );
}
