/* Units of several conversations in one transaction (rules 5, 6, 8, 13, 22, 23).

   Two conversations, and two journals, each with a unit for both of them in one batch that travels whole: it locks the rows in the order of
   their ids, then stores each unit that still fits. Both units of a conversation are built on the same version: one can be stored at most.
   A direct write locks one row, reads, thinks and writes. The connection may break at any moment: before the batch is there, or before the
   reply. A statement that the database refuses undoes the transaction; then each unit runs alone.

   What must hold: at most one change on each version of each conversation (I1, I2); a unit that fits is stored although the other of its
   batch does not fit; what was told holds; nobody waits for ever (an invalid end state).   M_...: a safeguard is taken out. */
#define NC 2
byte ver[NC];                           /* the row: every change moves it */
byte lock[NC];                          /* who holds its lock, 0: nobody */
byte poison;                            /* the unit of journal 1 that the database refuses, for a reason nobody expected, as a bit */
typedef Unit { byte base; bit stored };
typedef Batch { Unit u[NC] };
Batch b[3];                             /* of journal 1 and of journal 2 */

#ifdef M_UNORDERED
#define NTH(j,k) (j==1 -> k : 1-k)
#else
#define NTH(j,k) k
#endif

/* One transaction over the conversations first to last. res: 1 committed, 2 undone, 3 no reply, 4 no connection;
   fit: the units that are stored in it, as bits. */
inline flight(j, first, last, res, fit) {
  if
  :: k=first;
     do
     :: k<=last -> d_step { lock[NTH(j,k)]==0 -> lock[NTH(j,k)]=j;
#ifdef M_READ_BEFORE_LOCK
          skip
#else
          see[k]=ver[k]
#endif
        }; k++
     :: k>last -> break
     od;
     skip;
     d_step {                                                            /* later statements: what fits, and what refuses */
#ifndef M_READ_BEFORE_LOCK
       see[0]=ver[0]; see[1]=ver[1];
#endif
       fit=0; k=first;
       do
       :: k<=last -> if :: see[k]==b[j].u[k].base -> fit=fit|(1<<k) :: else fi; k++
       :: k>last -> break
       od;
#ifdef M_ALL_OR_NOTHING
       if :: first!=last && fit!=3 -> fit=0 :: else fi;
#endif
       k=0
     };
     if
     :: d_step { j==1 && (fit&poison) -> res=2; fit=0; k=first;       /* refused: undone, the locks go */
          do :: k<=last -> lock[k]=0; k++ :: k>last -> break od; k=0 }
     :: d_step { !(j==1 && (fit&poison)) -> k=first;
          do :: k<=last -> if :: (fit>>k)&1 -> assert(ver[k]==b[j].u[k].base); ver[k]++; b[j].u[k].stored=1 :: else fi; lock[k]=0; k++
             :: k>last -> break od; k=0 };
        if :: res=1 :: res=3; fit=0 fi                                    /* the reply comes, or not */
     fi
  :: res=3; fit=0                                                         /* it never got there: nobody can tell */
  :: res=4; fit=0                                                         /* it was never sent */
  fi
}

/* What the actors of the batch are told of their units: 1 stored, 2 certainly not, 3 nobody knows. With 1 go the refusals that were decided
   on what the unit makes of the conversation: those are true once that version is history, and not before. */
inline tell(j, i, what) {
  d_step {
    if
    :: what==1 -> assert(b[j].u[i].stored && ver[i]!=b[j].u[i].base)
    :: what==2 -> assert(!b[j].u[i].stored)
    :: else
    fi
  }
}

proctype Journal(byte j) {
  byte k, res, fit, all, i; byte see[NC];
#ifdef M_READ_BEFORE_LOCK
  d_step { see[0]=ver[0]; see[1]=ver[1] };
#endif
#ifdef M_ANSWER_FIRST
  tell(j,0,1); tell(j,1,1);
#endif
  flight(j, 0, 1, res, fit);
  if
  :: res==1 -> tell(j,0,((fit&1) -> 1 : 2)); tell(j,1,((fit>>1) -> 1 : 2));
       d_step { assert((fit&1) || ver[0]!=b[j].u[0].base); assert((fit>>1) || ver[1]!=b[j].u[1].base) }   /* who fits is stored */
  :: res==3 -> tell(j,0,3); tell(j,1,3)
  :: res==4 -> tell(j,0,2); tell(j,1,2)
  :: res==2 -> all=0; i=0;                                                /* each alone; one of them may be what is refused */
       do
       :: i<NC -> flight(j, i, i, res, fit);
          if
          :: res==1 -> all=all|fit; i++
          :: res==2 -> i++
          :: res>=3 -> break
          fi
       :: i==NC -> break
       od;
       if
       :: i==NC -> tell(j,0,((all&1) -> 1 : 2)); tell(j,1,((all>>1) -> 1 : 2))
       :: i<NC && res==3 -> tell(j,0,3); tell(j,1,3)
#ifdef M_PART_IS_NOTHING
       :: i<NC && res==4 -> tell(j,0,2); tell(j,1,2)
#else
       :: i<NC && res==4 -> tell(j,0,(all!=0 -> 3 : 2)); tell(j,1,(all!=0 -> 3 : 2))      /* some are stored, some are not */
#endif
       fi
  fi
}

/* A direct write: one flight that locks and reads, one that writes and commits. Its process may freeze in between; then the database undoes it. */
proctype Direct(byte c) {
  byte seen;
#ifdef M_READ_BEFORE_LOCK
  seen=ver[c]; lock[c]==0 -> lock[c]=3;
#else
  d_step { lock[c]==0 -> lock[c]=3 }; seen=ver[c];
#endif
  if
  :: d_step { assert(ver[c]==seen); ver[c]++; lock[c]=0 }
#ifndef M_NO_IDLE_TIMEOUT
  :: lock[c]=0
#else
  :: true                                                                 /* frozen, and the lock with it */
#endif
  fi
}

init { atomic {
  if :: poison=0 :: poison=1 :: poison=2 fi;
  run Journal(1); run Journal(2); run Direct(0); run Direct(1)
} }
