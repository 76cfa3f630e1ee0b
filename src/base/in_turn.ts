/**
 * Makes a function that finishes with one item before it takes the next, also when it is called
 * from within itself: what follows from an event is told to nobody before all have been told of the
 * event.
 */
export function inTurn<T>(take: (item: T) => void): (item: T) => void {
  const waiting: T[] = [];
  let isTaking = false;
  return (item) => {
    waiting.push(item);
    if (isTaking) return;
    isTaking = true;
    try {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) take(next);
    } finally {
      isTaking = false;
    }
  };
}
